"""What engines compile: for which shapes, from which graph, and where it is kept on disk."""
