"""The closed forms, one subject per file; `catalogue()` gathers them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache

from theory.formulas.closed_form import ClosedForm
from theory.shared.validation import one_of

SUBJECTS = (
    "information",
    "facts",
    "pairs",
    "triplets",
    "gradients",
    "coupling",
    "coupling_cases",
    "dynamics",
    "chain",
    "filters",
    "normalized",
    "lesions",
    "estimation",
    "few_samples",
    "random_layer",
    "damage",
)
"""Files of this folder, in the order in which the catalogue lists them."""


@cache
def catalogue() -> Mapping[str, ClosedForm]:
    """Every closed form of the theory by name, ordered by item T1 to T8.

    >>> from theory import catalogue
    >>> len(catalogue()) >= 40, sorted({form.item for form in catalogue().values()})
    (True, ['T1', 'T2', 'T3', 'T4', 'T5', 'T6', 'T7', 'T8'])
    """
    forms: dict[str, ClosedForm] = {}
    for subject in SUBJECTS:
        for form in importlib.import_module(f"theory.formulas.{subject}").FORMS:
            if form.name in forms:
                raise RuntimeError(f"two closed forms are named {form.name!r}")
            forms[form.name] = form
    return forms


def find_closed_form(name: str) -> ClosedForm:
    """The closed form of this name, or an error with the nearest names.

    >>> find_closed_form("peer_predictability").item
    'T1'
    """
    forms = catalogue()
    return forms[one_of("name", name, forms)]
