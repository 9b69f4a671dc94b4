"""Inputs of analyses: a model's sets, the rows of a selection, patches, objects and views."""
