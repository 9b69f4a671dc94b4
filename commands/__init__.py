"""What each command does, one file a group; app.py lists them all."""
