"""Flags that commands share, and what they print."""
