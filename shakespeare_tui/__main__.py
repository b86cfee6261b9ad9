"""Run the command line with ``python -m shakespeare_tui``."""

from shakespeare_tui.cli.main import program

if __name__ == "__main__":
    program()
