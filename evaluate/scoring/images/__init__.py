"""Whole images: one vector an image, and classifiers of them."""
