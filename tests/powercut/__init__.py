"""Power cuts: record what runs write, and lose what was not synced (docs/survival.md)."""
