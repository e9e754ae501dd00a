"""The README's snippets run, and print what the README says they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_snippet_prints_what_the_readme_says():
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == printed


def test_the_snippet_of_your_own_network_runs():
    code = re.search(r"## Your own network\n\n```python\n(.*?)```", README, re.DOTALL).group(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)
    )
    loader, test_loader = ([(torch.randn(60, 1, 6, 6), torch.arange(60) % 3)] for _ in range(2))
    names = {"model": model, "loader": loader, "test_loader": test_loader}
    exec(code, names)
    assert names["smaller"].report.reached == pytest.approx(0.5, abs=0.1)


def test_every_linked_file_exists():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_makefile_has_the_readmes_commands():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in re.findall(r"^make (\w[\w-]*)", README, re.MULTILINE):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command
