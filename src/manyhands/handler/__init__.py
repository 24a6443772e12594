"""The stream: the only place that knows order, bounds, errors and retries of a map.

``stream`` decides (pure), ``pump`` acts, ``runner`` and ``gate`` are the protocols of what it drives,
``results`` is what the user holds.
"""
