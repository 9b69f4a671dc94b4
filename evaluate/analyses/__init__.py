"""One file an analysis; `evaluate.questions.ANALYSES` lists them."""
