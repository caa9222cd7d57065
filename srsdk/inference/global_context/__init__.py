"""Networks that see the whole picture: compute it as a whole, or say what its tiles cost."""
