"""Painted street scenes in the layout of Cityscapes, and street videos in that of MOT17.

They need no download and are read by the real readers; results on them say nothing about real streets.
"""

from demo.street.nuisances import Conditions, Nuisances
from demo.street.video import write_street_video
from demo.street.world import write_street_world

__all__ = ["Conditions", "Nuisances", "write_street_video", "write_street_world"]
