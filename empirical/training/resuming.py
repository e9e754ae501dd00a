"""A training in its folder: finished, half done, or to be started afresh.

A finished training is a stage of the store: its checkpoints and its history. A half-done one has a
state, which is removed at the end. Where code has changed since, or a checkpoint is missing or
damaged, the training starts afresh: half of it by other code would be the training of neither, and
a checkpoint cannot be made again alone. Where settings have changed the folder is refused.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from empirical.training import distributed
from empirical.training.checkpoints import from_header, list_checkpoints, load_weights
from empirical.training.loop import TrainingLoop
from empirical.training.state import StoredState, TrainingState
from theory.shared.files import remove_leftovers, write_json
from theory.shared.store import Stage, content_hash


def train_in(folder: Path, run: TrainingLoop) -> None:
    """Take the steps that are left of a training, or load what it led to; one process at a time."""
    stage, leads = run.stage, distributed.rank() == 0
    with ExitStack() as stack:
        if leads:
            stack.enter_context(stage.locked())
            remove_leftovers(TrainingState.path(folder))
        distributed.barrier()  # the others look once nobody else writes
        _refuse_other_settings(folder, stage.stored().get("inputs"), stage.inputs)
        finished = stage.is_current()
        half = None if finished else _half_done(folder, stage)
        distributed.barrier()  # and nobody writes before all have looked
        if finished:
            load_weights(run.model, stage.artifacts[-1])
            run.state.history = _history(stage.artifacts[0])
        else:
            if leads:
                stage.forget()
                for file in list_checkpoints(folder) if half is None else ():
                    file.unlink()
            run.start(half)
            run.loop()
        if leads:
            if not finished:
                write_json(stage.artifacts[0], run.state.history)
                stage.record()
            TrainingState.path(folder).unlink(missing_ok=True)
        distributed.barrier()


def _history(file: Path) -> list[dict[str, float]]:
    """The rows of a finished training; the file has the content that its record names."""
    try:
        stored = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file} must hold the rows of a training; it is no JSON ({error}). Remove it: the "
            "training is then made again."
        ) from error
    return from_header(list[dict[str, float]], stored, file)


def _half_done(folder: Path, stage: Stage) -> StoredState | None:
    """The state to continue from; None, after saying why, where there is nothing to continue."""
    record = stage.stored()
    reason = ""
    if record:
        changed = record.get("key") != stage.key
        reason = "was made by other code" if changed else "lacks a checkpoint or has a damaged one"
    elif TrainingState.path(folder).exists():
        try:
            state = StoredState.read(folder)
        except ValueError:
            reason = "has a damaged state"
        else:
            _refuse_other_settings(folder, state.content["settings"], stage.inputs)
            if state.content["key"] != stage.key:
                reason = "was begun by other code"
            elif all(
                _holds(folder / name, content)
                for name, content in state.content["checkpoints"].items()
            ):
                return state
            else:
                reason = "lacks a checkpoint or has a damaged one"
    elif list_checkpoints(folder):
        reason = "has neither record nor state"
    if reason and distributed.rank() == 0:
        warnings.warn(f"the training in {folder} {reason}: starting it afresh.", stacklevel=4)
    return None


def _holds(file: Path, content: str) -> bool:
    return file.is_file() and content_hash(file) == content


def _refuse_other_settings(
    folder: Path, stored: Mapping[str, Any] | None, wanted: Mapping[str, Any]
) -> None:
    """Say which settings of the training in `folder` differ from the wanted ones, if any does."""
    if not isinstance(stored, Mapping):
        return
    there, here = _flat(stored), _flat(wanted)
    differing = [
        f"{key} {there.get(key)!r} there, {here.get(key)!r} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]
    if differing:
        raise ValueError(
            f"folder {str(folder)!r} holds a training with other settings: "
            f"{'; '.join(differing[:4])}. Choose another folder, or delete this one."
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
