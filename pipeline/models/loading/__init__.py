"""Loads weights: checkpoint files, key maps and position embeddings."""
