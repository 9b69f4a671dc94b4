"""What analyses read: a model's sets, the rows of a selection, patches, objects and views."""
