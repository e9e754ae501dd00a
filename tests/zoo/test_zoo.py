"""Measured, lesioned, replaced and pruned right, or refused by name: networks of every kind."""

from __future__ import annotations

import pytest

from tests.empirical.planted import PLANTED_TOLERANCE
from tests.zoo.checks import CRITERIA, RECOVERIES, Row, row
from tests.zoo.networks import ZOO

REMEDIES = ("skip", "Give", "Pass", "Leave", "Take", "Name", "Ask for", "make it permanent")

REFUSED = ("nf_resnet26",)
"""Of whose layers every one has a weight that is computed."""


def names_a_way_out(found: Row) -> bool:
    """Whether every refusal names a module of the network and what to do."""
    modules = [n for n, _ in ZOO[found.name].build().named_modules() if n] if found.refused else []
    return all(
        any(word in why for word in REMEDIES) and any(name in why for name in modules)
        for why in found.refused.values()
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ZOO)
def test_network(name: str) -> None:
    found = row(name)
    assert names_a_way_out(found), found.refused
    assert ("trace" in found.refused) == (name in REFUSED), found.refused
    if found.groups:
        assert not found.planted > PLANTED_TOLERANCE  # NaN where every silence is heard
        assert found.removed_masked <= 1e-4
        asked = {f"{criterion}, {recovery}" for criterion in CRITERIA for recovery in RECOVERIES}
        assert asked == set(found.share) | set(found.refused)
    for key, share in found.share.items():
        assert abs(share - found.independent[key]) <= 0.005, key
        assert abs(share - 0.7) <= 0.01, key
