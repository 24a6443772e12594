"""Which call a record is of."""

from __future__ import annotations

import logging


class TaskFilter(logging.Filter):
    """Gives records the attributes that those of workers have, so that formats may name them.

    Put it on a handler: ``handler.addFilter(TaskFilter())``. It lets all records pass. Those of worker processes have
    ``worker``, ``"<host>:<pid>"``, ``item``, the item's position in its map or None, and ``task``, the function's name.
    Others get ``""``, None and ``""``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Completes the record."""
        for name, value in (("worker", ""), ("item", None), ("task", "")):
            if not hasattr(record, name):
                setattr(record, name, value)
        return True
