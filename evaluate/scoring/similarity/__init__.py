"""What similarity compares: representations of layers, minibatches of rows, and the pairs of two models."""
