"""What is proved and measured on a machine with an NVIDIA GPU: `python -m benchmarks gpu-check`."""
