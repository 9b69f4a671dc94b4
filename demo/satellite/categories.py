"""DOTA v1's fifteen categories and their groups."""

from collections.abc import Mapping

SUPERCATEGORIES: Mapping[str, str] = {
    "plane": "aircraft",
    "baseball-diamond": "court",
    "bridge": "road",
    "ground-track-field": "court",
    "small-vehicle": "vehicle",
    "large-vehicle": "vehicle",
    "ship": "ship",
    "tennis-court": "court",
    "basketball-court": "court",
    "storage-tank": "structure",
    "soccer-ball-field": "court",
    "roundabout": "road",
    "harbor": "structure",
    "swimming-pool": "structure",
    "helicopter": "aircraft",
}
"""Group by category, in the order of DOTA v1 (arXiv 1711.10398); groups follow FAIR1M's where it has one."""

LABEL_IDS: Mapping[str, int] = {name: number for number, name in enumerate(SUPERCATEGORIES, start=1)}
"""Label of a painted pixel by category; 0 is background."""
