"""A procedural street world: scenes in the Cityscapes folder layout, videos in MOT17's, so that real readers read it.

It needs no download and teaches nothing about real streets: it is for trying the machinery.
"""

from demo.street.video import write_street_video
from demo.street.world import write_street_world

__all__ = ["write_street_video", "write_street_world"]
