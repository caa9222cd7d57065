"""Entry point of `python -m training`; see `training.cli`."""

import sys

from training.start import start

if __name__ == "__main__":
    sys.exit(start("training"))
