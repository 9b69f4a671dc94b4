"""Exact k-nearest-neighbour search and voting."""
