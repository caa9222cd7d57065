"""The source's other streams: which are copied, which are converted, and which cannot go."""
