"""Tools for tests: of manyhands itself, and of those who use it.

``model`` is a filesystem in memory, ``explorer`` runs the claim protocol on it in every order.
"""
