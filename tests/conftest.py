"""Hypothesis profiles: which examples are drawn, chosen by the environment.

Both have no deadline: a loaded machine is no defect.
"""

import os

from hypothesis import settings

settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
settings.register_profile("exploring", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "seeded"))
