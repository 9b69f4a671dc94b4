"""Experiment files."""

from commands.experiment.reading import load_experiment
from tests.fuzz.targets import Target, one_sentence, scratch


def experiment(data):
    path = scratch() / "experiment.toml"
    path.write_bytes(data)
    with one_sentence():
        load_experiment(path)


_TOML = b"""
[dataset]
name = "manifest"
file = "photos.csv"
void_ids = [255]
[[dataset.classes]]
name = "cat"
ids = [1]
colour = [1, 2, 3]
[dataset.few_shot]
unit = "tiles"
per_class = { train = 4 }
[frame]
input = 32
tile = { height = 32, width = 32 }
edge = "pad"
[[models]]
name = "vit_tiny_patch16_224"
weights = "random"
arguments = { class_token = false }
mean = [0.5, 0.5, 0.5]
[[views]]
kind = "blur"
[features]
layers = [0, -1]
norm = "both"
masked = { ratio = 0.75, seed = 0 }
[storage]
range_megabytes = 1.0
[selection]
train = { split = "train" }
[[analyses]]
name = "patch-classification"
"""

TARGETS = {"experiment": Target(experiment, (_TOML,))}
"""By the name that the runner prints."""
