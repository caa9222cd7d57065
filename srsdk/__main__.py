"""`python -m srsdk` is the `srsdk` command."""

import sys

from srsdk.cli import main

sys.exit(main())
