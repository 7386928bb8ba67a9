"""Annotated corpora: a name or a path becomes Examples."""
