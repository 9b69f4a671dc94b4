"""The commands, one file each; app.py lists them all."""
