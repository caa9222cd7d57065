"""`python -m tests.simulators.cuda ARGUMENTS`: run Python with the simulated CUDA driver."""

from __future__ import annotations

import os
import sys

from tests.simulators.cuda import environment

if __name__ == "__main__":
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment())
