"""What the quantities say of themselves, and that nothing depends on their order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from theory import LOCAL_AXIS, QUANTITIES, TARGET_AXIS, ChannelAxes, Moments, cli, quantities
from theory.axes import channel_axes
from theory.quantity import declared_quantities

LOCAL = {
    "signal_power",
    "rayleigh_quotient",
    "input_capture",
    "peer_overlap",
    "peer_predictability",
    "peer_information",
    "hull_size",
    "hull_score",
}
ROOT = Path(__file__).parent.parent.parent


def layer(seed: int) -> Moments:
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((60, 6)) @ rng.standard_normal((6, 6))
    return Moments.from_samples(y, y[:, 0] + rng.standard_normal(60))


def test_every_array_of_channel_axes_is_a_quantity_of_one_axis() -> None:
    arrays = [f.name for f in dataclasses.fields(ChannelAxes) if "Float" in str(f.type)]
    assert list(quantities()) == list(QUANTITIES) == arrays
    assert set(LOCAL_AXIS) == LOCAL
    assert set(TARGET_AXIS) == set(QUANTITIES) - LOCAL
    assert all(name == q.name for name, q in quantities().items())


def test_each_says_what_it_is_in_one_sentence() -> None:
    for q in quantities().values():
        assert q.sentence[0].isupper()
        assert q.sentence.endswith(".")
        assert ". " not in q.sentence
        assert q.direction
        assert ("nformation" in q.sentence) == (q.unit == "nats")


@pytest.mark.parametrize("seed", range(10))
def test_values_are_within_their_ranges(seed: int) -> None:
    found = channel_axes(layer(seed), weights=np.ones((6, 2))).as_dict()
    for name, q in quantities().items():
        assert (found[name] >= q.low - 1e-12).all(), name
        assert (found[name] <= q.high).all(), name


def test_an_axis_is_declared_at_the_field_and_not_by_its_place() -> None:
    """The same fields in the opposite order."""
    reverse = dataclasses.make_dataclass(
        "Reverse",
        [
            (f.name, f.type, dataclasses.field(metadata=f.metadata))
            for f in reversed(dataclasses.fields(ChannelAxes))
        ],
    )
    assert list(declared_quantities(reverse)) == list(reversed(QUANTITIES))
    assert declared_quantities(reverse) == quantities()


def test_the_fields_are_given_by_name_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        ChannelAxes(*[np.zeros(2)] * len(QUANTITIES))  # type: ignore[misc]


def test_changing_what_was_returned_changes_nothing() -> None:
    quantities().clear()
    assert set(quantities()) == set(QUANTITIES)


def test_the_command_lists_every_quantity_with_its_sentence() -> None:
    result = CliRunner().invoke(cli.app, ["quantities"], env={"COLUMNS": "400"})
    assert result.exit_code == 0, result.output
    for q in quantities().values():
        (row,) = [line for line in result.output.splitlines() if f"│ {q.name} " in line]
        assert all(words in row for words in (q.unit, q.range, q.direction, q.sentence))
    assert result.output.index("local axis") < result.output.index("target axis")


def test_the_documentation_lists_every_quantity_with_its_sentence() -> None:
    text = (ROOT / "docs" / "theory.md").read_text()
    for q in quantities().values():
        sentence = q.sentence.replace("|", r"\|")
        row = f"| `{q.name}` | {q.axis} | {q.unit} | {q.range} | {q.direction} | {sentence} |"
        assert row in text, f"docs/theory.md needs the row\n{row}"
