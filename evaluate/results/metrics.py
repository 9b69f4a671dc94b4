"""Metrics of the long table."""

PATCH_MIOU = "patch_miou"
