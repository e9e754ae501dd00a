"""Training with checkpoints, resumable to the bit."""
