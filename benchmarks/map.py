"""How soon the map of a ResNet-18 is painted, in a browser that has just started.

Measured on small images with a plan of removal, as one file; from the request to the second frame
after it, beside an empty page, in turns. Needs Chromium. The last line is JSON.

    python benchmarks/map.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests' browser and network

from empirical.report.map_page import write_map
from tests.browser import chromium
from tests.empirical.test_map_browser import resnet18


def milliseconds(file: Path) -> float:
    """Since the request, after two frames."""
    with chromium() as page:
        page.open(file)
        return float(page.run("performance.now()"))


def main() -> None:
    """Measure the network, write the page, open it some times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        table, plan = resnet18()
        file = write_map(Path(folder) / "map.html", table, plan=plan)
        empty = Path(folder) / "empty.html"
        empty.write_text("<!doctype html><title>nothing</title>")
        times = [(milliseconds(file), milliseconds(empty)) for _ in range(repeats)]
        size = file.stat().st_size
    painted, nothing = (round(statistics.median(some)) for some in zip(*times, strict=True))
    print(json.dumps({"painted_ms": painted, "empty_page_ms": nothing, "bytes": size}))


if __name__ == "__main__":
    main()
