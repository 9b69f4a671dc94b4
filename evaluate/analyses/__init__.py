"""One file an analysis; `evaluate.registry.ANALYSES` lists them."""
