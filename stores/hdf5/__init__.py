"""HDF5 files: exporting and importing one set as one file, and files for CLAM and TRIDENT."""
