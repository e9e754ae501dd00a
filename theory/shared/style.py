"""One look for every figure: the style sheet of the project, and a sheet of axes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import resources
from typing import ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")

MARKERS = "osD^vPX*"
"""Markers differ as colours do, so that figures read in greyscale."""


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under the project's style sheet, leaving global settings alone."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context():
            style.use(str(resources.files("theory.shared").joinpath("twoaxis.mplstyle")))
            return draw(*args, **kwargs)

    return wrapper


def sheet(rows: int, columns: int, *, width: float = 9.0, height: float = 3.0, **options):
    """A figure outside pyplot's registry, and its (rows, columns) array of axes."""
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes: NDArray[np.object_] = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def label(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Name both axes, with their units, and the panel."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title)
