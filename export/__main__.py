"""Entry point of `python -m export`; see `export.cli`."""

import sys

from training.start import start

if __name__ == "__main__":
    sys.exit(start("export"))
