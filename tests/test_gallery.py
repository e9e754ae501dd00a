"""The gallery shows every notebook: its name, its figures, two sentences."""

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))
SECTIONS = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8").split("\n## ")[1:]
FIGURES = ROOT / "docs" / "figures" / "gallery"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_has_a_section_with_two_sentences_and_its_figures(name):
    (section,) = [text for text in SECTIONS if f"`notebooks/{name}.py`" in text]
    text, *_ = section.split(f"`notebooks/{name}.py`. ")[1].split("\n\n")
    assert len(re.findall(r"\.(?=\s|$)", text)) == 2
    shown = re.findall(r"\]\(figures/gallery/([^)]+)\)", section)
    files = sorted(path.name for path in FIGURES.glob(f"{name}*.png"))
    assert sorted(shown) == files
    assert f"{name}.png" in files


def test_every_section_is_of_a_notebook_and_its_figures_are_small():
    assert len(SECTIONS) == len(NOTEBOOKS)
    for path in FIGURES.iterdir():
        with Image.open(path) as image:
            assert min(image.size) > 200
        assert path.stat().st_size < 100_000, path.name
