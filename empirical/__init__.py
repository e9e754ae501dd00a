"""The two axes of channel information in trained networks."""

from __future__ import annotations

import importlib

_PUBLIC: dict[str, str] = {
    "Layer": "reading.layers",
    "find_layers": "reading.layers",
    "capture": "reading.hooks",
    "edit": "reading.hooks",
    "measure": "measuring.measurement",
    "AxisTable": "measuring.table",
    "merge_tables": "measuring.estimation",
    "gradient_cosines": "measuring.gradients",
    "lesion": "lesions.lesioning",
    "LesionTable": "lesions.table",
    "replace": "lesions.replacement",
    "ReplacementTable": "lesions.replacement",
    "Calibration": "pruning.calibration",
    "PrunedModel": "pruning.pruner",
    "PruningReport": "pruning.pruner",
    "criterion_names": "pruning.criteria",
    "register_criterion": "pruning.criteria",
    "prune": "pruning.pruner",
    "save_pruned": "pruning.pruned_file",
    "load_pruned": "pruning.pruned_file",
    "export_onnx": "pruning.export",
    "export_program": "pruning.export",
    "latencies": "pruning.latency",
    "Factorial": "pruning.comparison",
    "run_factorial": "pruning.comparison",
    "ImageSet": "data.images",
    "image_loader": "data.images",
    "load_data": "data.loading",
    "split_data": "data.splits",
    "ModelSpec": "models",
    "create_model": "models",
    "Recipe": "training.recipes",
    "train": "training.trainer",
    "evaluate": "training.evaluation",
    "load_model": "training.checkpoints",
    "load_weights": "training.checkpoints",
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
