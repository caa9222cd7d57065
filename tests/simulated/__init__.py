"""Tests on the simulated GPU: `python -m tests.simulators.cuda -m pytest tests/simulated`."""
