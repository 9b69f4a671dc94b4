"""Models: one file a family, listed in one table."""
