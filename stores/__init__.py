"""What a feature set is and where it lives."""
