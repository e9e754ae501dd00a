"""Tasks that wait for each other, here, on local processes, or on the workers of a Dask scheduler.

A task is a function by name and plain arguments, so that a scheduler needs none of our packages.
What is finished is never computed again; a task that fails is tried twice, then named, and all
that do not wait for it go on.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures import ProcessPoolExecutor as Processes
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TRIES = 2
"""How often a task that fails, or loses its worker while it runs alone, is started."""

PATIENCE = 10
"""Seconds in which a scheduler must answer."""

SINGLE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Set to 1 for local workers: a process of one thread per core beats threads, for small work."""


@dataclass(frozen=True)
class Task:
    """A call by name, after others.

    Parameters
    ----------
    call : "package.module:function", importable where it runs
    arguments : of plain values
    after : keys of the tasks that must have succeeded
    resources : what its Dask worker must have, such as {"GPU": 1}
    """

    call: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    resources: Mapping[str, float] = field(default_factory=dict)


class TasksFailedError(RuntimeError):
    """Some tasks failed, and all others are finished; `failed` is key -> what was wrong."""

    def __init__(self, failed: Mapping[str, str], skipped: int) -> None:
        self.failed = dict(failed)
        said = "; ".join(f"{key}: {why}" for key, why in self.failed.items())
        waited = f" {skipped} tasks that wait for them were not started." if skipped else ""
        super().__init__(
            f"{len(self.failed)} tasks failed, each of {TRIES} times: {said}.{waited} Everything "
            "else is finished and kept; start again to try them anew."
        )


def available_threads() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def perform(call: str, arguments: Mapping[str, Any]) -> Any:
    """Call "package.module:function" with the arguments.

    >>> perform("builtins:dict", {"a": 1})
    {'a': 1}
    """
    module, _, function = call.partition(":")
    return getattr(importlib.import_module(module), function)(**arguments)


def attempt(call: str, arguments: Mapping[str, Any]) -> Any:
    """`perform`, whose errors have no traceback: a cluster cannot send that of a deep recursion."""
    try:
        return perform(call, arguments)
    except Exception as error:
        raise error.with_traceback(None) from None


def run_tasks(
    tasks: Mapping[str, Task],
    *,
    workers: int = 0,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, Any]]:
    """Run all tasks, and yield (key, what it returned) as each succeeds.

    Parameters
    ----------
    tasks : key -> task; those that others wait for among them
    workers : local processes of one thread each; 0 runs in this one, in order
    scheduler : address of a Dask scheduler, in place of local processes
    progress : called with (tasks that succeeded, all tasks)

    Raises
    ------
    TasksFailedError
        after everything else, where tasks failed
    ConnectionError
        the scheduler cannot be reached, or goes away
    ModuleNotFoundError
        a scheduler is named, and Dask is not installed

    >>> tasks = {"a": Task("builtins:dict", {"x": 1}), "b": Task("builtins:dict", after=("a",))}
    >>> list(run_tasks(tasks))
    [('a', {'x': 1}), ('b', {})]
    """
    pool = _pool(workers, scheduler)
    book = _Book(dict(tasks))
    running: dict[Future[Any], str] = {}
    with pool.open():
        while book.waiting or running:
            for key in book.ready(alone=not running):
                running[pool.submit(book.start(key))] = key
            if not running:
                break  # what is left waits for tasks that failed
            alone = len(running) == 1
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                key = running.pop(future)  # not kept: a cluster forgets what nobody asks for
                error = _outcome(future)
                if error is None:
                    book.done.add(key)
                    yield key, future.result()
                    if progress is not None:
                        progress(len(book.done), len(tasks))
                elif isinstance(error, CancelledError):
                    raise ConnectionError(pool.gone) from error
                else:
                    book.fail(key, error, lost=pool.is_loss(error), alone=alone)
    if book.failed:
        raise TasksFailedError(book.failed, len(book.waiting))


def _pool(workers: int, scheduler: str | None) -> _Pool:
    if scheduler is not None:
        return _Cluster(scheduler)
    return _Local(workers) if workers else _Here()


def _outcome(future: Future[Any]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:
        return error


class _Book:
    """Which tasks wait, which are done, and how often each was tried."""

    def __init__(self, tasks: dict[str, Task]) -> None:
        self.tasks = tasks
        self.waiting = dict.fromkeys(tasks)
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        self.tries: Counter[str] = Counter()
        self.suspects: set[str] = set()

    def ready(self, *, alone: bool) -> list[str]:
        """Keys of the tasks to start; what ran when a worker was lost runs last, and alone."""
        free = [key for key in self.waiting if self.done.issuperset(self.tasks[key].after)]
        trusted = [key for key in free if key not in self.suspects]
        return trusted or (free[:1] if alone else [])

    def start(self, key: str) -> Task:
        del self.waiting[key]
        return self.tasks[key]

    def fail(self, key: str, error: BaseException, *, lost: bool, alone: bool) -> None:
        """Let a task wait for another try, or give it up."""
        if lost:
            self.suspects.add(key)
        if not lost or alone:
            self.tries[key] += 1
        if self.tries[key] < TRIES:
            self.waiting[key] = None
        else:
            text = str(error).strip().splitlines() or [""]
            self.failed[key] = f"{type(error).__name__}: {text[0]}".removesuffix(".")


class _Pool(ABC):
    """Where tasks run."""

    gone = "workers are gone. Everything finished is kept; start again for the rest."

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    @abstractmethod
    def submit(self, task: Task) -> Future[Any]:
        """Start a task."""

    def is_loss(self, error: BaseException) -> bool:
        """Whether the worker was lost, and not the task wrong."""
        return False


class _Here(_Pool):
    """The process that asks, one task at a time."""

    def submit(self, task: Task) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(perform(task.call, task.arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class _Local(_Pool):
    """Processes of one thread each."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.processes = self._made()
        self.broken = False

    def _made(self) -> Processes:
        return Processes(
            self.workers, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet
        )

    @contextmanager
    def open(self) -> Iterator[None]:
        before = {name: os.environ.get(name) for name in SINGLE}
        os.environ.update(dict.fromkeys(SINGLE, "1"))
        try:
            yield
        finally:
            self.processes.shutdown(wait=sys.exc_info()[0] is None, cancel_futures=True)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def submit(self, task: Task) -> Future[Any]:
        if self.broken:
            self.processes.shutdown(wait=True, cancel_futures=True)
            self.processes, self.broken = self._made(), False
        try:
            return self.processes.submit(perform, task.call, task.arguments)
        except BrokenProcessPool as error:
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    def is_loss(self, error: BaseException) -> bool:
        self.broken |= isinstance(error, BrokenProcessPool)
        return isinstance(error, BrokenProcessPool)


def _quiet() -> None:
    """Ctrl-C ends a worker without a traceback of its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class _Cluster(_Pool):
    """The workers of a Dask scheduler."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.gone = (
            f"scheduler {address} is gone. Everything that was finished is kept; start again, with "
            "a scheduler that runs, for the rest."
        )

    @contextmanager
    def open(self) -> Iterator[None]:
        try:
            from distributed import Client
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "scheduler needs Dask. Install it with: pip install 'twoaxis[cluster]'"
            ) from error
        client_of: Any = Client  # Dask's own functions carry no types
        try:
            self.client = client_of(self.address, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"scheduler {self.address!r} cannot be reached: {error}. Start `dask scheduler` "
                "and pass the address that it prints."
            ) from error
        with self.client:
            yield

    def submit(self, task: Task) -> Future[Any]:
        resources = dict(task.resources)
        kept: Executor = self.client.get_executor(pure=False, retries=0, resources=resources)
        # By a builtin and plain values: the scheduler unpacks what it is sent.
        words = f"__import__('{__name__}', fromlist=['']).attempt(call, arguments)"
        return kept.submit(eval, words, {"call": task.call, "arguments": dict(task.arguments)})

    def is_loss(self, error: BaseException) -> bool:
        return type(error).__name__ == "KilledWorker"
