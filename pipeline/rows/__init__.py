"""The rows of a set: which tile of which source image each row is, and its pixels."""
