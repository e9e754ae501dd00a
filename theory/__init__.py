"""Population mathematics of the two axes of channel information. All information in nats."""
