"""Where the artifacts of a run lie."""

from __future__ import annotations

from pathlib import Path

from empirical.training.checkpoints import checkpoint_path


class RunPaths:
    """The files of a run in the folder `out`."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def folder(self, seed: int) -> Path:
        """Return the folder of one seed."""
        return self.out / f"seed-{seed}"

    def checkpoint(self, seed: int, step: int) -> Path:
        """Return a checkpoint's file."""
        return checkpoint_path(self.folder(seed) / "train", step)

    def table_path(self, seed: int, step: int) -> Path:
        """Return where the measurement of a checkpoint lies."""
        return self.folder(seed) / "axes" / f"step-{step:07d}.npz"

    def accuracy_path(self, seed: int, step: int) -> Path:
        """Return where the accuracy of a checkpoint lies."""
        return self.folder(seed) / "accuracy" / f"step-{step:07d}.json"

    def gradients_path(self, seed: int, step: int) -> Path:
        """Return where the gradients' angles of a checkpoint lie."""
        return self.folder(seed) / "gradients" / f"step-{step:07d}.csv"

    def robustness_folder(self, seed: int) -> Path:
        """Return the folder of the repeated measurements of a trained network."""
        return self.folder(seed) / "robustness"
