"""Devices besides plain CPUs and CUDA GPUs: OpenVINO's, and ONNX Runtime's execution providers."""
