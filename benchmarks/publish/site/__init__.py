"""What the documentation site is made of: the gallery, the command-line reference, mkdocs hooks."""
