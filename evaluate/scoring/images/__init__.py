"""Vectors of whole images, and classifiers of them, which several analyses share."""
