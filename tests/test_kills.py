"""Killed at random moments, everything that computes leads to the same tables in the end."""

import json
import subprocess
import sys

import pytest

KILLS = {
    "train": 20, "lesions": 20, "pruning": 20,
    "measure": 11, "lesion": 11, "prune": 10, "sweep": 10,
}  # fmt: skip


def outcome(job, kills, folder, root):
    """What `tests.kills` says, in a process of its own, since it forks."""
    command = [sys.executable, "-m", "tests.kills", job, str(kills), "0", str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def as_in_one_go(found, kills):
    return found.get("different") == [] and found["kills"] == kills and found["finished"] > 0


def test_a_few_kills_change_no_table(tmp_path, pytestconfig):
    """Of a command; a run and a sweep are killed in tests of their own."""
    found = outcome("measure", 2, tmp_path, pytestconfig.rootpath)
    assert as_in_one_go(found, 2), found


@pytest.mark.slow
@pytest.mark.parametrize(("job", "kills"), KILLS.items())
def test_a_hundred_kills_change_no_table(job, kills, tmp_path, pytestconfig):
    assert sum(KILLS.values()) >= 100
    found = outcome(job, kills, tmp_path, pytestconfig.rootpath)
    assert as_in_one_go(found, kills), found
