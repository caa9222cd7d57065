"""FP16: convert graphs, and find the nodes that overflow or lose too much and stay in float32.

Uses: errors, evaluation, graph, protocol.
"""
