"""Chapters of a report, one per subject: tables in, a `Section` out."""
