"""Coverage-guided fuzzing of what strangers hand in; not collected by pytest (docs/survival.md)."""
