"""A procedural world seen from above in the DOTA v1 folder layout, so that a real reader reads it.

It needs no download and teaches nothing about real places: it is for trying the machinery.
"""

from demo.satellite.world import write_satellite_world

__all__ = ["write_satellite_world"]
