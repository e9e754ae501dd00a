"""What made a result: settings, data, versions, machine and time."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version

import torch

from empirical.data.splits import DataSplit
from empirical.runs.config import RunConfig

PACKAGES = ("twoaxis", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "torch-pruning")


def run_record(
    config: RunConfig, split: DataSplit, device: torch.device, started: float
) -> dict[str, object]:
    """Return the content of `run.json`; `started` is the time at which this process began."""
    parts = (split.fit, split.calibration, split.selection, split.report)
    return {
        "config": config.to_dict(),
        "data": {part.name: {"n": len(part), "fingerprint": part.fingerprint} for part in parts},
        "versions": {"python": platform.python_version(), **versions()},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "seconds_of_last_start": round(time.time() - started, 1),
    }


def versions() -> dict[str, str]:
    """Return the installed version of every package that results depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
