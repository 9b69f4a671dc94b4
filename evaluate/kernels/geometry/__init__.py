"""Geometry of patch tokens from sums of one pass: norms, activations, ranks, spatial structure, position, spread."""
