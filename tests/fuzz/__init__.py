"""Coverage-guided fuzzing of untrusted input; not collected by pytest (docs/survival.md)."""
