"""What several analyses share: classifiers of patches and the scores of predictions."""
