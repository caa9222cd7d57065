"""Evaluate exported files: parity with the network, PSNR on test sets, speed.

Uses: errors, graph, protocol.
"""
