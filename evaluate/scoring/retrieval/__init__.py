"""Scores of a retrieval of patches, and examples of it for a picture."""
