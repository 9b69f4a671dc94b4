"""Painted aerial images in the layout of DOTA v1, read by the real reader.

They need no download; results on them say nothing about real places.
"""

from demo.satellite.world import write_satellite_world

__all__ = ["write_satellite_world"]
