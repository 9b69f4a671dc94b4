"""Numbers of tokens and attention, from arrays alone."""
