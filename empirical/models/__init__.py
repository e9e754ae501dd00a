"""Networks to train and measure, by name."""

from __future__ import annotations

from empirical.models.factory import ModelSpec, create_model

__all__ = ["ModelSpec", "create_model"]
