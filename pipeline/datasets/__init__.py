"""Data sets: one file a layout, listed in one table."""
