"""Reads files of data sets: images, label maps, outlines and tables."""
