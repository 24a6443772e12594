"""``python -m controls`` in the directory above: the controls without the rest."""

import sys

from controls.main import main

sys.exit(main(sys.argv[1:]))
