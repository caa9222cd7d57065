"""`python -m export`: see `export.cli`."""

from __future__ import annotations

import sys


def main() -> int:
    """Return the exit code; Ctrl-C while torch is imported, for seconds, is no traceback either."""
    try:
        from export.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("export: stopped before anything began\n")
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(main())
