"""The papers' encoders written again, compactly and in plain torch, as judges of the loaders.

Parameter names are those of the official checkpoints. Every model's ``layers(images)`` returns the outputs of all
blocks (prefix tokens first), and ``final(tokens)`` is the norm before the heads.
"""
