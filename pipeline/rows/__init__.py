"""Which tile of which image is which row of a set, and its pixels."""
