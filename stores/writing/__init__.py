"""Writing chunks, committing ranges and sealing arrays."""
