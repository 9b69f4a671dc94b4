"""The files of a set: paths, layout, chunks, commit records, summaries and tables."""
