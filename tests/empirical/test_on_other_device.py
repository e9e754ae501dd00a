"""Pruning where model and images are not on the CPU, checked without such a device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def found(*criteria):
    """What differs from the CPU, or is refused, on a device whose tensors meet no CPU tensor."""
    command = [sys.executable, "-m", "tests.empirical.on_other_device", *criteria]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_recoveries_and_forecasts_run_on_another_device():
    assert found("osscar", "hessian", "lindeps") == {"criteria": 3, "wrong": []}


@pytest.mark.slow
def test_every_criterion_runs_on_another_device():
    said = found("all")
    assert said["criteria"] > 50
    assert said["wrong"] == []
