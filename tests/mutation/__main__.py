"""Which changes of a module do its own tests notice? `python -m tests.mutation [MODULE...]`.

Everything is imported once; every mutant runs its tests in a fork, where the module is run anew
with one change, so nothing on disk changes and a mutant costs little more than its tests. Fast
tests come first, and the first failure ends a mutant. The modules that ran have their sections of
docs/mutation.md written anew; the reasons beside survivors are written there by hand, and kept.
A section is of the code of its run: what has changed in its module since is not in it.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import os
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import hypothesis
import pytest

from tests.mutation import operators
from tests.mutation.operators import Mutant, mutants

CAMPAIGN = {
    "theory/sampling.py": [
        "tests/theory/test_sampling.py",
        "tests/theory/test_peer_estimates.py",
        "tests/theory/test_few_samples.py",
    ],
    "theory/rank_coupling.py": ["tests/theory/test_rank_coupling.py"],
    "theory/moments.py": ["tests/theory/test_moments.py"],
    "theory/axes.py": [
        "tests/theory/test_axes.py",
        "tests/theory/test_axes_limits.py",
        "tests/theory/test_bias_correction.py",
        "tests/theory/test_peer_hull.py",
        "tests/theory/test_peer_estimates.py",
        "tests/theory/test_few_samples.py",
    ],
    "theory/few_samples.py": [
        "tests/theory/test_peer_estimates.py",
        "tests/theory/test_few_samples.py",
    ],
    "theory/_correction.py": ["tests/theory/test_bias_correction.py"],
    "theory/_conditional.py": ["tests/theory/test_decided.py", "tests/theory/test_axes_limits.py"],
    "empirical/analysis/statistics.py": [
        "tests/empirical/test_statistics.py",
        "tests/empirical/test_lesion_tables.py",
    ],
    "empirical/analysis/predictors.py": ["tests/empirical/test_predictors.py"],
    "empirical/analysis/lesions.py": ["tests/empirical/test_lesion_tables.py"],
    "empirical/analysis/couplings.py": ["tests/empirical/test_couplings.py"],
    "empirical/analysis/groupings.py": ["tests/empirical/test_groupings.py"],
    "empirical/analysis/pruning.py": ["tests/empirical/test_pruning_tables.py"],
    "empirical/analysis/seeds.py": ["tests/empirical/test_seeds.py"],
    "empirical/analysis/reliability.py": ["tests/empirical/test_reliability.py"],
}
"""Module -> the tests that answer for it; its own doctests are among them."""

TABLE = Path("docs/mutation.md")
OPTIONS = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist"]
HOUSE = ("theory", "sim", "empirical", "tests")
PATIENCE = 10.0
"""A mutant that takes so many times the processor time of the unchanged tests hangs."""


class FastFirst:
    """Orders tests by their time in the unchanged run, which it takes down first."""

    def __init__(self, times: Path) -> None:
        self.times = times
        self.known = json.loads(times.read_text()) if times.stat().st_size else {}
        self.seconds: dict[str, float] = {}

    def pytest_collection(self) -> None:
        """Same examples every time, and no search for the smallest that fails."""
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutation", phases=phases, database=None, deadline=None, derandomize=True
        )
        hypothesis.settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.known.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        if not self.known:
            self.times.write_text(json.dumps(self.seconds))


def passes(code: CodeType, module: Path, tests: list[str], times: Path, limit: int) -> bool:
    """Whether the tests pass, in a fork, where the module's code is `code`."""
    process = os.fork()
    if process == 0:
        result = int(pytest.ExitCode.INTERNAL_ERROR)
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            _serve(code, module)
            result = pytest.main([*OPTIONS, str(module), *tests], plugins=[FastFirst(times)])
        finally:
            os._exit(result)
    return os.waitpid(process, 0)[1] == 0


def _serve(code: CodeType, module: Path) -> None:
    """Run `module` anew as `code`, and give all who imported its names the new ones."""
    own = vars(sys.modules[_name(str(module))])
    before = dict(own)
    exec(code, own)
    for name, other in list(sys.modules.items()):
        if name.partition(".")[0] in HOUSE:
            shared = vars(other).keys() & before.keys()
            for key in [key for key in shared if vars(other)[key] is before[key]]:
                setattr(other, key, own[key])


def _name(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


def survivors(module: Path, tests: list[str]) -> tuple[int, list[Mutant]]:
    """How many mutants a module has, and those that its tests do not notice."""
    tree = ast.parse(module.read_text())
    every, left = mutants(tree), []
    with tempfile.NamedTemporaryFile() as file:
        times = Path(file.name)
        before = os.times()
        if not passes(_code(tree, module), module, tests, times, limit=3600):
            raise RuntimeError(f"{module}: its tests fail before any change. Run {tests}.")
        after = os.times()
        used = after.children_user + after.children_system
        limit = int(PATIENCE * (used - before.children_user - before.children_system)) + 5
        for number, mutant in enumerate(every, 1):
            with mutant.applied():
                code = _code(tree, module)
            if passes(code, module, tests, times, limit):
                left.append(mutant)
                print(f"{module}:{mutant.line} {mutant.before} -> {mutant.after}", flush=True)
            if sys.stderr.isatty():
                print(f"{number} of {len(every)}, {len(left)} left", end="\r", file=sys.stderr)
    print(f"{module}: {len(every) - len(left)} of {len(every)} noticed", flush=True)
    return len(every), left


def _code(tree: ast.Module, module: Path) -> CodeType:
    return compile(tree, str(module.resolve()), "exec")


def section(module: str, total: int, left: list[Mutant], reasons: dict[str, str]) -> str:
    """The part of the table that belongs to one module."""
    killed = total - len(left)
    lines = [f"## {module}", "", f"{total} mutants, {killed} killed ({killed / total:.1%})."]
    if left:
        lines += ["", "| where | change | why it lives |", "|---|---|---|"]
    for mutant in left:
        cell = f"| `{mutant.where}` | `{_cell(mutant.before)}` → `{_cell(mutant.after)}` |"
        lines.append(f"{cell} {reasons.get(cell, 'not judged yet')} |")
    return "\n".join(lines) + "\n"


def _cell(code: str) -> str:
    return code.replace("|", "\\|")


def _known(table: str) -> tuple[dict[str, str], dict[str, str]]:
    """The sections of a table by module, and the reasons in them by the cells before."""
    sections = {part.split("\n", 1)[0]: f"## {part}" for part in table.split("\n## ")[1:]}
    rows = re.findall(r"^(\| `.*?` \| `.*` → `.*` \|) (.*) \|$", table, re.MULTILINE)
    return sections, dict(rows)


def _modules(arguments: list[str]) -> Iterator[tuple[str, list[str]]]:
    for module in arguments or CAMPAIGN:
        if module not in CAMPAIGN:
            raise SystemExit(f"MODULE must be one of {', '.join(CAMPAIGN)}; got {module!r}.")
        yield module, CAMPAIGN[module]


def main(arguments: list[str]) -> None:
    """Run the campaign over the named modules, all by default, and rewrite the table."""
    for module, tests in list(_modules(arguments)):
        for file in (module, *tests):
            importlib.import_module(_name(file))
        gc.freeze()
        total, left = survivors(Path(module), tests)
        head = f"# Mutants\n\n{(__doc__ or '').strip()}\n\n{(operators.__doc__ or '').strip()}\n\n"
        sections, reasons = _known(TABLE.read_text() if TABLE.exists() else "")
        sections[module] = section(module, total, left, reasons)
        parts = [sections[name].strip() + "\n" for name in CAMPAIGN if name in sections]
        TABLE.write_text(head + "\n".join(parts))


if __name__ == "__main__":
    main(sys.argv[1:])
