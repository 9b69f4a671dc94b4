"""What is kept of a model's forward pass: one file a capture, listed in `table`."""
