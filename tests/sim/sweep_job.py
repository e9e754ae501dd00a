"""A sweep to be killed: `python -m tests.sim.sweep_job FOLDER`."""

import sys
import time

from sim.sweep import run_sweep


def third(setting):
    time.sleep(0.03)
    return {"third": setting["x"] / 3}


def roots(setting):
    """Work for the processor, for those who count its time."""
    return {"sum": sum((k + setting["x"]) ** 0.5 for k in range(20_000))}


def run(folder, progress=None):
    run_sweep(third, [{"x": x} for x in range(30)], out=folder, progress=progress)


if __name__ == "__main__":
    run(sys.argv[1])
