"""Makes feature and label sets from images and frozen models."""
