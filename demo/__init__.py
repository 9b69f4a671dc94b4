"""Painted worlds for the demo, the tests and the benchmarks."""
