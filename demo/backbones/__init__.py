"""Trains small vision transformers on the painted street world, one objective each, everything else alike.

``python -m demo.backbones train demo/backbones/mae.toml --out DIR`` trains one of them; see README.md beside.
"""
