"""Sweeps that can be stopped and that outgrow one machine: a pure function over many settings.

Every finished setting is one small JSON file, written atomically; a sweep started again computes
only what is missing. The same sweep runs here, or on a Dask cluster, with identical results.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from theory.shared.files import write_json

Setting = Mapping[str, Any]
Result = dict[str, Any]
RETRIES = 3
"""How often a setting is tried again on another worker after its worker was lost."""


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
    function : importable, depending on nothing but its setting; returns JSON types, NaN allowed.
    settings : JSON types.
    out : folder for the finished settings; None keeps nothing.
    scheduler : address of a Dask scheduler, such as "tcp://host:8786"; None runs here. Needs the
        extra `cluster`.
    progress : called with (settings done, settings).

    Raises
    ------
    ValueError
        a file in `out` that belongs to another sweep or is damaged.
    """
    folder = None if out is None else Path(out)
    results: dict[int, Result] = {}
    for place, setting in enumerate(settings):
        known = None if folder is None else _load(_path(folder, function, setting), setting)
        if known is not None:
            results[place] = known
    if progress is not None:
        progress(len(results), len(settings))
    missing = [place for place in range(len(settings)) if place not in results]
    compute = _compute_here if scheduler is None else _compute_on_cluster
    for place, result in compute(function, settings, missing, scheduler or ""):
        # What is returned is what a second run would read, to the last bit.
        encoded = _encode(result)
        if folder is not None:
            record = {"setting": dict(settings[place]), "result": encoded}
            write_json(_path(folder, function, settings[place]), record)
        results[place] = _decode(encoded)
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
    try:
        from distributed import Client, as_completed
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "scheduler needs Dask. Install it with: pip install 'twoaxis[cluster]'"
        ) from error
    client_of: Any = Client  # Dask's own functions carry no types
    completed: Any = as_completed
    with client_of(scheduler) as client:
        futures = {
            client.submit(function, settings[place], pure=False, retries=RETRIES): place
            for place in places
        }
        for future in completed(list(futures)):
            yield futures[future], future.result()


def _path(folder: Path, function: Callable[[Setting], Result], setting: Setting) -> Path:
    """One file per setting, named by what it was computed from."""
    text = json.dumps([function.__qualname__, setting], sort_keys=True, allow_nan=False)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def _load(path: Path, setting: Setting) -> Result | None:
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record["setting"] == json.loads(json.dumps(setting))
        result: Result = _decode(record["result"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"out holds a damaged result: {path} ({error}). Delete that file and start again."
        ) from error
    if not same:
        raise ValueError(f"out holds a result of another sweep: {path}. Choose another folder.")
    return result


def _encode(value: Any) -> Any:
    """JSON has no NaN; None stands for it."""
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _decode(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_decode(v) for v in value]
    return math.nan if value is None else value
