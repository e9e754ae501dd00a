"""Hypothesis profiles: which examples are drawn, chosen by the environment.

Both have no deadline: a loaded machine is no defect. Each says what it needs itself: where `CI` is
set, Hypothesis starts from another default.

And what tests of more than one folder share.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
settings.register_profile(
    "exploring", derandomize=False, max_examples=1000, deadline=None, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "seeded"))


@pytest.fixture(scope="module")
def figures_not_drawn() -> Iterator[None]:
    """Reports have their figures, as files of a word: drawing them takes longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("empirical.report.page.figure_bytes", lambda figure, kind: b"drawn")
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As in processes of tests: sums of training depend on the number of threads."""
    import torch  # slow to import

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
