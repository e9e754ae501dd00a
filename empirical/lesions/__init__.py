"""Channels silenced, or replaced by their peers, and what it costs."""
