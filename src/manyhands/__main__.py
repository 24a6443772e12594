"""``python -m manyhands``: the command line."""

from manyhands.cli import main

main()
