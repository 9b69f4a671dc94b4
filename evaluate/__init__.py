"""Measures stored sets; never runs a backbone."""
