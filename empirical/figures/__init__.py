"""Figures of the empirical part. Each function takes tables and returns a matplotlib Figure."""
