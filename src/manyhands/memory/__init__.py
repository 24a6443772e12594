"""Large data between processes: shared memory without names, cut into slots that are used again."""
