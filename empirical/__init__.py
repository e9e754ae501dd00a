"""The two axes of channel information in trained networks."""

from __future__ import annotations

import importlib

_PUBLIC: dict[str, str] = {
    "Layer": "layers",
    "find_layers": "layers",
    "capture": "activations",
    "edit": "activations",
    "measure": "measurement",
    "AxisTable": "table",
    "merge_tables": "estimation",
    "gradient_cosines": "gradient_geometry",
    "lesion": "lesions",
    "LesionTable": "lesion_table",
    "replace": "replacement",
    "ReplacementTable": "replacement",
    "Calibration": "calibration",
    "PrunedModel": "pruning",
    "PruningReport": "pruning",
    "criterion_names": "criteria",
    "prune": "pruning",
    "save_pruned": "pruned_file",
    "load_pruned": "pruned_file",
    "export_onnx": "export",
    "export_program": "export",
    "latencies": "latency",
    "Factorial": "comparison",
    "run_factorial": "comparison",
    "ImageSet": "images",
    "image_loader": "images",
    "load_data": "data",
    "split_data": "splits",
    "ModelSpec": "models",
    "create_model": "models",
    "Recipe": "recipes",
    "train": "training",
    "evaluate": "evaluation",
    "load_model": "checkpoints",
    "load_weights": "checkpoints",
}
"""Public name -> module. Resolved on first use: importing this package does not load torch."""

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'empirical' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"empirical.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
