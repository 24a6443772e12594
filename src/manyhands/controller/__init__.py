"""Who runs the calls: a pool of worker processes.

``ledger`` decides (pure), ``dispatcher`` acts, ``session`` is one map's share of a pool, ``pool`` is the face
and the shared pools.
"""
