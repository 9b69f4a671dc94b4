"""Computing stored rows again: to rebuild lost chunks, and to compare what another machine or precision gives."""
