"""How fast srsdk is: run as ``python -m benchmarks``; nothing here goes into the wheel."""
