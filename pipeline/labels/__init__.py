"""Label sets: what is known about the samples, stored once for all models."""
