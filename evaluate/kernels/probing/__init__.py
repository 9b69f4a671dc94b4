"""Fits of linear classifiers: losses, optimisers, and the choice of a penalty."""
