"""``python -m passk_lab``: the command line."""

import sys

from passk_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
