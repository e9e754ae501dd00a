"""Processor time until something can be used: fresh processes, user and system time together.

The budgets are 0.5 s for the front door and its help, and for `empirical.measure` one second more
than torch's own import. `theory list` prints closed forms, which are sympy's; its yardstick is the
import of sympy. Medians over fresh processes, in turns; the last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

MEASURED = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import sympy": ["-c", "import sympy"],
    "import twoaxis": ["-c", "import twoaxis"],
    "twoaxis --help": ["-m", "twoaxis", "--help"],
    "twoaxis --version": ["-m", "twoaxis", "--version"],
    "twoaxis prune --help": ["-m", "twoaxis", "prune", "--help"],
    "twoaxis theory list": ["-m", "twoaxis", "theory", "list"],
    "from theory import Moments": ["-c", "from theory import Moments"],
    "from sim import simulate": ["-c", "from sim import simulate"],
    "from empirical import measure": ["-c", "from empirical import measure"],
}
"""What -> arguments of a fresh interpreter."""

BUDGETS = {
    "import twoaxis": (None, 0.5),
    "twoaxis --help": (None, 0.5),
    "from empirical import measure": ("import torch", 1.0),
}
"""What -> (what else it contains, seconds on top of that)."""


def processor_seconds(arguments):
    """User and system time of one fresh interpreter, and of what it starts."""
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}.")
    return usage.ru_utime + usage.ru_stime


def main():
    """Print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes each")
    repeats = parser.parse_args().repeats
    times = {name: [] for name in MEASURED}
    for _ in range(1 + repeats):
        for name, arguments in MEASURED.items():
            times[name].append(processor_seconds(arguments))
    # The first of each fills the file cache and writes byte code.
    seconds = {name: statistics.median(found[1:]) for name, found in times.items()}
    ratios = {}
    print(f"{'':32}{'seconds':>9}{'budget':>9}{'ratio':>7}   (medians of {repeats})")
    for name, found in seconds.items():
        budget = ""
        if name in BUDGETS:
            within, extra = BUDGETS[name]
            allowed = extra + (seconds[within] if within else 0.0)
            ratios[name] = round(found / allowed, 2)
            budget = f"{allowed:9.2f}{ratios[name]:7.2f}"
        print(f"{name:32}{found:9.2f}{budget}")
    rounded = {name: round(found, 3) for name, found in seconds.items()}
    print(
        json.dumps({"seconds": rounded, "to_budget": ratios, "within": max(ratios.values()) <= 1})
    )


if __name__ == "__main__":
    main()
