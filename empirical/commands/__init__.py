"""The commands on networks: one source of network and images, opened once, and thin commands."""
