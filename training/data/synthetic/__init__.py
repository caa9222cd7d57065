"""Generated training pictures, free of third-party rights."""
