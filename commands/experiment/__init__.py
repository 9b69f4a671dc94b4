"""Loading experiment files, and what a run needs besides."""
