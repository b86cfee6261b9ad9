"""Run the command line with ``python -m shakespeare_tui``."""

import sys

from shakespeare_tui.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
