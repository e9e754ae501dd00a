"""The fingerprint of code: what changes it, what does not, and what a stage of ours depends on."""

import importlib.metadata
import subprocess
import sys

import pytest

from theory.shared import code
from theory.shared.code import fingerprint, sources, versions

PACKAGE = {
    "__init__": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from tiny.lazy import late\n"
        "__getattr__ = print\n"
    ),
    "measure": (
        "from typing import TYPE_CHECKING\n"
        "from tiny import late\n"
        "from tiny.estimator import estimate\n"
        "if TYPE_CHECKING:\n    from tiny.kinds import Kind\n"
        "BY_NAME = {'net': 'tiny.networks:net'}\n"
        "def measure(): return estimate() + late()\n"
    ),
    "estimator": "from . import constants\ndef estimate(): return constants.ONE\n",
    "constants": "ONE = 1\n",
    "lazy": "def late(): return 2\n",
    "networks": "def net(): return 4\n",
    "kinds": "Kind = int\n",
    "figure": "from tiny.measure import measure\ndef draw(): return measure()\n",
}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A package `tiny` of its own; `change` edits a module and forgets what was read before."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))

    def forget():
        fingerprint.cache_clear()
        code._tree.cache_clear()

    def change(name, old, new):
        file = folder / f"{name}.py"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        forget()

    forget()
    yield change
    forget()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("measure", "estimate() +", "estimate() -"),
        ("estimator", "constants.ONE", "-constants.ONE"),
        ("constants", "1", "1.5"),
        ("lazy", "2", "20"),
        ("networks", "4", "40"),
    ],
    ids=["itself", "imported", "relative", "bound lazily", "named by a string"],
)
def test_a_change_of_what_a_module_uses_changes_its_fingerprint(tiny, module, old, new):
    before = fingerprint("tiny.measure")
    tiny(module, old, new)
    assert fingerprint("tiny.measure") != before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("figure", "measure()", "2 * measure()"),
        ("kinds", "int", "float"),
        (
            "estimator",
            "def estimate(): return",
            "def estimate():\n    '''One.'''\n    # yes\n    return",
        ),
        ("constants", "ONE = 1", "ONE  =  1\n'''What one is.'''"),
        ("__init__", "import late", "import late\n    from tiny.figure import draw"),
    ],
    ids=["a figure", "a type", "docstring and comment", "layout", "another lazy name"],
)
def test_a_change_of_what_it_does_not_use_does_not(tiny, module, old, new):
    before = fingerprint("tiny.measure")
    tiny(module, old, new)
    assert fingerprint("tiny.measure") == before


def test_sources_are_read_once_in_a_process(tiny, tmp_path):
    """An edit during a run of hours is not the code of that run."""
    before = fingerprint("tiny.measure")
    (tmp_path / "tiny" / "constants.py").write_text("ONE = 7\n")
    assert fingerprint("tiny.measure") == before


def test_a_lazy_package_used_as_a_whole_counts_as_a_whole(tiny):
    assert {"tiny", "tiny.figure", "tiny.lazy"} <= set(sources("tiny"))
    tiny("measure", "import late", "import late, unbound")
    assert "tiny.figure" in sources("tiny.measure")


def test_a_module_that_runs_as_a_script_has_the_fingerprint_that_others_see(tiny, tmp_path):
    program = "from theory.shared.code import fingerprint\nprint(fingerprint(__name__))\n"
    (tmp_path / "tiny" / "script.py").write_text(program)
    (tmp_path / "own.py").write_text(program)
    environment = {"PYTHONPATH": f"{tmp_path}:{':'.join(filter(None, sys.path))}"}
    for arguments, name in (
        (["-m", "tiny.script"], "tiny.script"),
        ([str(tmp_path / "own.py")], str(tmp_path / "own.py")),
    ):
        printed = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True
        ).stdout
        assert printed.strip() == fingerprint(name)


def test_a_module_without_source_is_named():
    with pytest.raises(ValueError, match=r"'nowhere\.at_all' has none\. Put the function"):
        fingerprint("nowhere.at_all")


@pytest.mark.parametrize(
    ("module", "used", "not_used"),
    [
        (
            "empirical.runs.measuring_stage",
            ["theory.axes", "theory.hull", "empirical.reading.recorder", "empirical.models.resnet",
             "empirical.measuring.measurement", "empirical.measuring.gradients"],
            ["empirical.lesions", "empirical.pruning", "empirical.analysis", "theory.formulas"],
        ),
        (
            "empirical.training.trainer",
            ["empirical.data.augmentation", "empirical.models.vgg", "empirical.training.loop",
             "empirical.training.recipes", "empirical.seeding"],
            ["empirical.measuring", "empirical.reading.recorder", "empirical.lesions",
             "empirical.pruning", "theory.axes"],
        ),
        (
            "empirical.runs.lesion_stage",
            ["empirical.lesions.lesioning", "empirical.lesions.replacement", "theory.moments"],
            ["empirical.pruning", "empirical.report"],
        ),
        (
            "empirical.runs.pruning_stage",
            ["empirical.pruning.criteria_information", "empirical.pruning.reconstruction",
             "empirical.measuring.measurement", "empirical.training.evaluation"],
            ["empirical.lesions", "empirical.analysis"],
        ),
        (
            "empirical.runs.robustness_stage",
            ["empirical.analysis.robustness", "theory.nonparametric"],
            ["empirical.lesions", "empirical.pruning"],
        ),
        (
            "sim.experiments.cells",
            ["sim._kernels", "sim.law", "theory.coupling_law"],
            ["sim.sweep", "sim.experiments.plotting", "sim.experiments.phases"],
        ),
    ],
)  # fmt: skip
def test_what_our_stages_depend_on(module, used, not_used):
    found = set(sources(module))
    assert set(used) <= found
    above = ["empirical.report", "empirical.commands", "empirical.runs.config"]
    for name in [*not_used, *above, "theory.shared.store", "theory.cli"]:
        assert not {m for m in found if m == name or m.startswith(f"{name}.")}, name


def test_the_version_of_a_library_that_numbers_depend_on_counts_where_it_is_used(tiny, monkeypatch):
    tiny("constants", "ONE = 1", "import numpy\n\nONE = 1")
    before = fingerprint("tiny.measure"), fingerprint("tiny.kinds")
    fingerprint.cache_clear()
    own = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99.9" if name == "numpy" else own(name)
    )
    after = fingerprint("tiny.measure"), fingerprint("tiny.kinds")
    fingerprint.cache_clear()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_the_libraries_behind_a_measurement_are_followed():
    used = versions(sources("empirical.runs.measuring_stage"))
    assert {"numpy", "scipy", "torch"} <= set(used)
    assert used["torch"] == importlib.metadata.version("torch")
