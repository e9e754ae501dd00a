"""The look of figures holds where it is asked for, and nowhere else."""

import matplotlib
import pytest

from theory.shared.style import MARKERS, figure_legend, label, mark, sheet, styled


def test_the_look_ends_with_its_context_even_after_an_error():
    before = dict(matplotlib.rcParams)

    @styled()
    def draw():
        assert matplotlib.rcParams["axes.grid"]
        raise KeyError

    for _ in range(2):  # the decorator serves every call
        with pytest.raises(KeyError):
            draw()
    assert dict(matplotlib.rcParams) == before


def test_series_differ_in_color_line_and_marker():
    with styled():
        looks = [mark(index) for index in range(4)]
        assert mark(6)["color"] == looks[0]["color"]
    for part in ("color", "linestyle", "marker"):
        assert len({look[part] for look in looks}) == 4
    assert mark(len(MARKERS) + 1)["marker"] == MARKERS[1]


def test_a_sheet_has_the_size_and_the_row_heights_asked_for():
    figure, axes = sheet(2, 3, width=6.0, height=2.0, heights=(1, 0.5))
    assert axes.shape == (2, 3)
    assert figure.get_size_inches().tolist() == [6.0, 3.0]
    tops, bottoms = (panel.get_position().height for panel in axes[:, 0])
    assert tops == pytest.approx(2 * bottoms)


def test_a_legend_row_holds_the_legends_and_nothing_else():
    _, axes = sheet(2, 2)
    axes[0, 0].plot([0, 1], label="line")
    label(axes[0, 0], "x", "y", "title")
    figure_legend(axes[1], axes[0, :1])
    assert [text.get_text() for text in axes[1, 0].get_legend().get_texts()] == ["line"]
    assert axes[1, 1].get_legend() is None
    assert not any(panel.axison for panel in axes[1])
    assert (axes[0, 0].get_xlabel(), axes[0, 0].get_title()) == ("x", "title")
