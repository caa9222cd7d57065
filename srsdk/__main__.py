"""`python -m srsdk` is the `srsdk` command."""

import sys

from srsdk.cli.main import main

sys.exit(main())
