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
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.reading.hooks import evaluating, run_on
from empirical.reading.outputs import one_tensor
from theory.shared.files import write_bytes
from theory.shared.validation import instance

TOLERANCE, ROUNDINGS = 1e-4, 10
"""Largest difference between two runtimes, as a share of the largest logit, or in roundings."""


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
        ONNX Runtime cannot run it, or computes something else. The file is then not written.
    TypeError, ValueError
        no images, or a model that cannot read them or returns no single tensor.
    """
    batch, example = as_numpy("example", example), example.detach()
    missing = [m for m in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(m)]
    if missing:
        raise ModuleNotFoundError(
            f"ONNX export needs {', '.join(missing)}. Install with: pip install 'twoaxis[export]'"
        )
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "model.onnx"
        with evaluating(model), _quiet():
            expected = one_tensor(run_on(model, "example", example))
            torch.onnx.export(
                model, (example,), draft, dynamo=True, external_data=False,
                input_names=["images"], output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim.AUTO},),
            )  # fmt: skip
        found = _run(draft, batch)
        difference = _difference(found, expected.cpu())
        if difference > _tolerance(expected):
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
    example = checked_images("example", example)
    with evaluating(model):
        expected = one_tensor(run_on(model, "example", example))
        program = torch.export.export(
            model, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},)
        )
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        buffer.seek(0)
        found = torch.export.load(buffer).module()(example)
    difference = _difference(found, expected)
    if difference > _tolerance(expected):
        raise RuntimeError(
            f"the exported program differs by {difference:.3g}; nothing was written."
        )
    write_bytes(path, buffer.getvalue())


def checked_images(name: str, images: Tensor) -> Tensor:
    """Images (n, ...), n at least 1, without a gradient."""
    instance(name, images, Tensor, "Pass images (n, ...).")
    if images.ndim < 2 or not len(images):
        raise ValueError(
            f"{name} must be images (n, ...), at least one; got shape {tuple(images.shape)}."
        )
    return images.detach()


def as_numpy(name: str, images: Tensor) -> NDArray[Any]:
    """Images as ONNX Runtime reads them; those of bfloat16, which NumPy lacks, are refused."""
    images = checked_images(name, images)
    if images.dtype == torch.bfloat16:
        raise TypeError(
            f"{name} must be of a type that ONNX Runtime reads; got torch.bfloat16. Pass "
            "images.float(), and model.float()."
        )
    return np.asarray(images.cpu().numpy())


def _run(draft: Path, batch: NDArray[Any]) -> Tensor:
    try:
        found = onnx_session(draft).run(None, {"images": batch})[0]
    except Exception as error:  # its errors have no common class
        single = "" if batch.dtype == np.float32 else "Pass images.float(), and model.float(); or "
        raise RuntimeError(
            f"ONNX Runtime cannot run the model on images of {batch.dtype}: "
            f"{' '.join(str(error).split())}. {single}use export_program."
        ) from error
    return torch.from_numpy(found)


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest; 0 where both are the same infinity, infinite where one is no number.

    >>> inf = torch.inf
    >>> _difference(torch.tensor([-inf, 1.0]), torch.tensor([-inf, 3.0]))
    2.0
    >>> _difference(torch.tensor([torch.nan, 1.0]), torch.tensor([0.0, 1.0]))
    inf
    """
    found, expected = found.double(), expected.double()
    same = (found == expected) | (found.isnan() & expected.isnan())
    apart = (found - expected).abs().masked_fill(same, 0.0)
    return float(apart.masked_fill(apart.isnan(), torch.inf).max())


def _tolerance(expected: Tensor) -> float:
    rounding = torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0.0
    size = expected.double().abs()
    largest = float(size.masked_fill(~size.isfinite(), 0.0).max())
    return max(TOLERANCE, ROUNDINGS * rounding) * max(1.0, largest)


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
