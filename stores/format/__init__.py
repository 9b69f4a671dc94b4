"""The files of a set: paths, layout, chunks, commit records, seals, summaries and tables."""
