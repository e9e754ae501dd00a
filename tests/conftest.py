"""Hypothesis profiles: which examples are drawn, chosen by the environment.

Both have no deadline: a loaded machine is no defect. Each says what it needs itself: where `CI` is
set, Hypothesis starts from another default.
"""

import os

from hypothesis import settings

settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
settings.register_profile(
    "exploring", derandomize=False, max_examples=1000, deadline=None, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "seeded"))
