"""Predictions, scores and base classes that several analyses share."""
