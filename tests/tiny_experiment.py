"""An experiment on the miniature of CamVid, as a user writes it."""

EXPERIMENT = """
seed = 0
[dataset]
name = "camvid"
[frame]
tile = 32
input = 32
edge = "shift-last"
[features]
norm = "both"
[storage]
range_megabytes = 0.002
[[models]]
name = "test_vit"
weights = "random"
[selection.train]
split = "train"
per_group = 3
[selection.validation]
split = "val"
[[analyses]]
kind = "variance-spectrum"
top = [3]
[[analyses]]
kind = "patch-classification"
penalties = [0.01, 0.1]
remove = [0, 5]
k = [1, 3]
[[analyses]]
kind = "label-maps"
images = 2
"""


def wrong(text, old, new):
    """Return the text with a mistake in it."""
    assert old in text
    return text.replace(old, new)
