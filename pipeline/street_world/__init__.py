"""A procedural street world in the Cityscapes folder layout, so that the real reader reads it.

It needs no download and teaches nothing about real streets: it is for trying the machinery.
"""

from pipeline.street_world.world import write_street_world

__all__ = ["write_street_world"]
