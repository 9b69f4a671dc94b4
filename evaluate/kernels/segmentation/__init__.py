"""Segmentation: confusion matrices and their scores, votes of similar patches, and clusters as classes."""
