"""Runs models over samples: plan, decode, forward pass, write, resume, repair."""
