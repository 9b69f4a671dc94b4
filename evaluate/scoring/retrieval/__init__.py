"""Retrieval of changed patches: outcomes of queries, and examples as pictures."""
