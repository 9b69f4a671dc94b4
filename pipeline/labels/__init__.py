"""Label sets: labels and tables of the samples, stored once for all models."""
