"""Numerical routines on arrays; they know nothing of stored sets."""
