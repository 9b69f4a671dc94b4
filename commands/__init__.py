"""What each command does, one file a group; cli.py lists them all."""
