"""What an analysis raises where the results at hand hold nothing that it could say."""

from __future__ import annotations


class NoDataError(ValueError):
    """Names what is missing and how to get it; a report says so in the place of the chapter."""
