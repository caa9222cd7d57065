"""CUDA memory, streams, events and graphs, and the GPU engines that use them.

Only this folder imports `cuda.bindings`; from the rest of `engines` it uses only the protocol.
"""
