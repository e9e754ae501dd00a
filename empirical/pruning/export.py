"""Hand a network to other runtimes: ONNX, checked by running it, and `torch.export`."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.reading.hooks import evaluating, run_on
from theory.shared.files import write_bytes

TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime and torch, as a share of the largest logit."""


def export_onnx(path: str | os.PathLike[str], model: nn.Module, example: Tensor) -> float:
    """Write `model` as ONNX with a free batch size, run it, and return the largest difference.

    Parameters
    ----------
    path : the file; weights are inside.
    example : images (n, ...).

    Raises
    ------
    ModuleNotFoundError
        onnx, onnxscript or onnxruntime is not installed.
    RuntimeError
        ONNX Runtime computes something else. The file is then not written.
    """
    missing = [m for m in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(m)]
    if missing:
        raise ModuleNotFoundError(
            f"ONNX export needs {', '.join(missing)}. Install with: pip install 'twoaxis[export]'"
        )
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "model.onnx"
        with evaluating(model), _quiet():
            expected = run_on(model, "example", example)
            torch.onnx.export(
                model, (example,), draft, dynamo=True, external_data=False,
                input_names=["images"], output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim.AUTO},),
            )  # fmt: skip
        session = onnx_session(draft)
        found = session.run(None, {"images": example.cpu().numpy()})[0]
        difference = float(np.abs(found - expected.cpu().numpy()).max())
        if difference > TOLERANCE * max(1.0, float(expected.abs().max())):
            raise RuntimeError(
                f"ONNX Runtime differs from torch by {difference:.3g} on the example; {path} was "
                "not written. Report the model to torch.onnx, or use export_program."
            )
        write_bytes(path, draft.read_bytes())
    return difference


def onnx_session(path: str | os.PathLike[str], threads: int = 0) -> Any:
    """A session of ONNX Runtime on the CPU with so many threads; 0 leaves the number to it.

    Its threads rest between runs. By default they wait in a loop, for a second or more, and slow
    down whatever else runs then: two sessions timed in turns took twice their time.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def export_program(path: str | os.PathLike[str], model: nn.Module, example: Tensor) -> None:
    """Write `model` by `torch.export.save`, with a free batch size where it allows one.

    Raises
    ------
    RuntimeError
        the reloaded program computes something else. The file is then not written.
    """
    with evaluating(model):
        expected = run_on(model, "example", example)
        program = torch.export.export(
            model, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},)
        )
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        buffer.seek(0)
        found = torch.export.load(buffer).module()(example)
    difference = float((found - expected).abs().max())
    if difference > TOLERANCE * max(1.0, float(expected.abs().max())):
        raise RuntimeError(
            f"the exported program differs by {difference:.3g}; nothing was written."
        )
    write_bytes(path, buffer.getvalue())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress lines and deprecation notices to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
