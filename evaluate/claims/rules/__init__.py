"""One file a group of claims; `evaluate.claims.CLAIMS` lists them."""
