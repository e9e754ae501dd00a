"""The scripts of notebooks/, executed: an .ipynb each, and their figures for the gallery.

    python scripts/notebooks.py [NAME ...] [--figures docs/figures/gallery]

Ten minutes for all on two threads, of which the chain of mechanism takes half. A figure is kept
with 64 colours, some tens of kilobytes.
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

from theory.shared.files import write_bytes

ROOT = Path(__file__).parent.parent
COLOURS = 64
INLINE = "%matplotlib inline"
"""Notebooks draw without pyplot; with this, a figure that ends a cell is shown."""


def main() -> None:
    """Execute every notebook, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of notebooks, without .py; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "notebooks")
    parser.add_argument("--figures", type=Path, help="folder for the figures as well")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one cell")
    options = parser.parse_args()
    names = options.names or sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))
    for name in names:
        notebook = executed(ROOT / "notebooks" / f"{name}.py", options.timeout)
        write_bytes(options.out / f"{name}.ipynb", nbformat.writes(notebook).encode())
        drawn = figures(notebook)
        print(f"{name}: {len(drawn)} figures", flush=True)
        for number, image in enumerate(drawn if options.figures else []):
            suffix = f"_{number + 1}" if number else ""
            write_bytes(options.figures / f"{name}{suffix}.png", image)


def executed(path: Path, timeout: int) -> nbformat.NotebookNode:
    """The notebook of a script with its outputs; an assertion that fails is an error."""
    notebook = jupytext.read(path)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(INLINE))
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=resources).execute()
    return notebook


def figures(notebook: nbformat.NotebookNode) -> list[bytes]:
    """PNG files of the figures shown, in their order."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
                stream = io.BytesIO()
                image.quantize(COLOURS).save(stream, "PNG", optimize=True)
                found.append(stream.getvalue())
    return found


if __name__ == "__main__":
    main()
