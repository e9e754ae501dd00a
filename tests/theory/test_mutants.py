"""Wrong formulas are refused: by general steps where an entry is proven, else by any check."""

from __future__ import annotations

import pytest

from tests.theory.mutants import fate, mutants
from theory import catalogue
from theory.cli import ITEMS

REFUSED, BY_GENERAL_STEPS = 0.95, 0.90
"""Least shares of mutants: refused by derivation or oracle; of proven entries, by general steps."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("item", ITEMS)
def test_wrong_formulas_are_refused(item: str) -> None:
    """Per item; `-s` prints who refused what."""
    refused, by_general = [], []
    for form in (form for form in catalogue().values() if form.item == item):
        proven = form.derive(form.expr).status == "proven"
        for kind, wrong in mutants(form):
            found = fate(form, wrong)
            if found is None:
                continue
            refused.append(found.derivation or found.oracle)
            if proven:
                by_general.append(found.general)
            print(form.name, kind, found)
    print(f"{item}: {sum(refused)} of {len(refused)}; proven {sum(by_general)}/{len(by_general)}")
    assert sum(refused) >= REFUSED * len(refused)
    assert sum(by_general) >= BY_GENERAL_STEPS * len(by_general)
