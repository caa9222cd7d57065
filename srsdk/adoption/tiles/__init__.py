"""How far a network sees, by its operators or by running it, and on which grid tiles equal it."""
