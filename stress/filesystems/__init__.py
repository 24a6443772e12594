"""The claims storm on real network filesystems: ``python -m stress filesystems``; see README.md beside it."""
