"""Tasks about captured arrays and token maps, which several analyses share."""
