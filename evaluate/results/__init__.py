"""Results: keys, long tables, files, bootstrap draws and run records."""
