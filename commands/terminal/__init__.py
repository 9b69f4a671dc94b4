"""Shared command-line flags, and printing to the terminal."""
