"""One worker process.

What it is told and tells (``messages``, ``channel``, ``payload``), how it is started (``launch``,
``forkserver``), what it does (``child``), and who ends it when its parent dies (``guard``).
"""
