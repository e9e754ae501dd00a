"""Channels removed, by any criterion, and what is left made good."""
