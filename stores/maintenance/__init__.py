"""Looking after a store: listing, verifying, repairing and removing sets."""
