"""Check and measure srsdk on an NVIDIA GPU: `python -m benchmarks gpu-check`.

Uses: machine.
"""
