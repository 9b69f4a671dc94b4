"""HDF5 exchange files: one set in one file, and CLAM-style files."""
