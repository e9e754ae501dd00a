"""What runs a model over images and adds anything up: hooks, positions, patches, sums."""
