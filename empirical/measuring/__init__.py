"""Both axes of every layer of a network, in one pass over the data."""
