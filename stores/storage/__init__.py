"""Storage of objects (key to bytes): local folders and object stores behind one protocol."""
