"""Listing, verifying, repairing and removing the sets of a store."""
