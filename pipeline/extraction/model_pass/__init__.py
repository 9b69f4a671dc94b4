"""Runs batches of pixels through a model on a device and returns the wanted arrays in host memory."""
