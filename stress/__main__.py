"""``python -m stress`` from the directory above, or ``python stress``."""

import sys
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).parent)
)  # its modules go by their bare names, as in the processes it starts

if sys.argv[1:2] == ["filesystems"]:
    from filesystems.command import main as storms_on_filesystems

    sys.exit(storms_on_filesystems(sys.argv[2:]))

from run import main

sys.exit(main())
