"""How bytes come to count: write, commit, seal."""
