"""Benchmark srsdk with `python -m benchmarks`; not part of the wheel."""
