"""Measures of how alike two representations of the same images are."""
