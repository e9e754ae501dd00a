"""Sweeps that can be stopped and that outgrow one machine: a pure function over many settings.

Every finished setting is a cell of the store; a sweep started again computes only what is missing.
The same sweep runs here, or on a Dask cluster, with identical results.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from theory.shared.store import Cells
from theory.shared.tasks import Task, run_tasks
from theory.shared.validation import instance

Setting = Mapping[str, Any]
Result = dict[str, Any]


def run_sweep(
    function: Callable[[Setting], Result],
    settings: Sequence[Setting],
    *,
    out: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Evaluate `function` at every setting, and return the results in the order of the settings.

    Parameters
    ----------
    function : importable, of one argument `setting`, depending on nothing else; returns JSON types,
        NaN allowed.
    settings : JSON types.
    out : folder in which finished settings are kept, in one file per function; what is damaged, or
        was computed by code that has changed since, is computed again. None keeps nothing.
    scheduler : address of a Dask scheduler, such as "tcp://host:8786"; None runs here. Needs the
        extra `cluster`.
    progress : called with (settings done, settings).

    Examples
    --------
    >>> run_sweep(lambda setting: {"square": setting["x"] ** 2}, [{"x": 2}, {"x": 3}])
    [{'square': 4}, {'square': 9}]
    """
    instance("function", function, Callable, "Pass an importable function of one setting.")  # type: ignore[arg-type]
    instance("settings", settings, Sequence, "Pass a list of settings.")
    for setting in settings:
        instance("settings", setting, Mapping, "Pass each as a dictionary.")
    file = Path(out or "") / f"{function.__name__}.jsonl"
    kept = Cells(file, {"function": function.__qualname__}, (function.__module__,))
    with nullcontext() if out is None else kept as cells:
        known = [None if cells is None else cells.get(setting) for setting in settings]
        results = {place: result for place, result in enumerate(known) if result is not None}
        if progress is not None:
            progress(len(results), len(settings))
        missing = [place for place in range(len(settings)) if place not in results]
        compute = _compute_here if scheduler is None else _compute_on_cluster
        for place, result in compute(function, settings, missing, scheduler or ""):
            # What is returned is what a second run would read, to the last bit.
            results[place] = (
                json.loads(json.dumps(result))
                if cells is None
                else cells.add(settings[place], result)
            )
            if progress is not None:
                progress(len(results), len(settings))
    return [results[place] for place in range(len(settings))]


def _compute_here(
    function: Callable[[Setting], Result],
    settings: Sequence[Setting],
    places: Sequence[int],
    _: str,
) -> Iterator[tuple[int, Result]]:
    for place in places:
        yield place, function(settings[place])


def _compute_on_cluster(
    function: Callable[[Setting], Result],
    settings: Sequence[Setting],
    places: Sequence[int],
    scheduler: str,
) -> Iterator[tuple[int, Result]]:
    call = f"{function.__module__}:{function.__qualname__}"
    tasks = {str(place): Task(call, {"setting": dict(settings[place])}) for place in places}
    for key, result in run_tasks(tasks, scheduler=scheduler):
        yield int(key), result
