"""The hash that names and code are told apart by: BLAKE2b (RFC 7693), as ``hashlib`` has it.

Past ``hashlib``, which loads OpenSSL: that takes some milliseconds, and every process that claims hashes something.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # a Python whose hashes are all OpenSSL's
    from hashlib import blake2b

__all__ = ["blake2b"]
