"""Speed of ensemble training against batched NumPy, batched PyTorch and the machine's GEMM rate.

Run: python benchmarks/simulation.py        (about a minute; use a machine that does nothing else)

All three train the same two-layer linear networks by the same steps, in the eigenbasis of Σ:

    G = (A W - B) ∘ λ,   W -= η Aᵀ G,   A -= η G Wᵀ.

Counted are the 3 K C d multiply-adds of the three products, 2 flops each, and nothing else. The
GEMM rate is the better of NumPy's and PyTorch's on square float64 matrices, on all cores. Many
short rounds time everything once each, and the best round of each route counts: other work on the
machine can only slow one down. The last line is one JSON object.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

# The folder of a script comes first on the path; a module in it named like a library would hide it.
sys.path = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

from sim import Network, Regression, power_law  # noqa: E402
from sim._ensemble import advance_all, build_members  # noqa: E402
from theory.shared.tasks import available_threads  # noqa: E402

SETTINGS = {
    "large": {"members": 16, "width": 128, "dimension": 64, "outputs": 10, "steps": 100},
    "small": {"members": 64, "width": 32, "dimension": 16, "outputs": 1, "steps": 500},
}
RATE = 1e-3
ROUNDS = 60
BATCHED_STEPS = 20


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gemm_rate(a: np.ndarray, b: np.ndarray) -> float:
    """Better float64 rate of two libraries on square matrices, flops per second."""
    out, ta, tb = np.empty_like(a), torch.from_numpy(a), torch.from_numpy(b)
    works = (lambda: np.matmul(a, b, out=out), lambda: torch.mm(ta, tb))
    return 2 * len(a) ** 3 / min(seconds(work) for work in works for _ in range(2))


def numpy_steps(W: np.ndarray, A: np.ndarray, B: np.ndarray, spectrum: np.ndarray) -> None:
    """Train a whole ensemble in place: W (S, C, d), A (S, K, C), B (K, d)."""
    for _ in range(BATCHED_STEPS):
        G = (A @ W - B) * spectrum
        change = np.swapaxes(A, 1, 2) @ G
        A -= RATE * (G @ np.swapaxes(W, 1, 2))
        W -= RATE * change


def torch_steps(W: torch.Tensor, A: torch.Tensor, B: torch.Tensor, spectrum: torch.Tensor) -> None:
    """The same with PyTorch's fused batched products."""
    for _ in range(BATCHED_STEPS):
        G = (torch.bmm(A, W) - B) * spectrum
        change = G @ W.transpose(1, 2)
        W.baddbmm_(A.transpose(1, 2), G, alpha=-RATE)
        A.sub_(change, alpha=RATE)


def compare(
    members: int, width: int, dimension: int, outputs: int, steps: int
) -> dict[str, np.ndarray]:
    """Per round: microseconds per step of the whole ensemble by each route, and the GEMM rate."""
    task = Regression(power_law(dimension, 1.0), outputs=outputs)
    network, population = Network(width=width), task.population
    started = [network.draw(population, seed) for seed in range(members)]
    W, A = (np.stack([getattr(w, n) for w in started]) for n in ("filters", "readout"))
    B, spectrum = np.array(population.teacher), np.array(population.spectrum)
    tensors = [torch.from_numpy(np.array(x)) for x in (W, A, B, spectrum)]
    ensemble = build_members(
        population, network, range(members), batch=0, samples=0, dtype=np.float64
    )
    rates = np.array([RATE, RATE])
    squares = np.random.default_rng(0).standard_normal((2, 1024, 1024))
    rounds = []
    with ThreadPoolExecutor(available_threads()) as pool:

        def kernel_steps(number: int) -> None:
            for _ in advance_all(ensemble, network, rates, [0, number], pool):
                pass

        kernel_steps(1)  # compile
        for _ in range(ROUNDS):
            micro = 1e6 / BATCHED_STEPS
            rounds.append(
                {
                    "gemm": gemm_rate(*squares),
                    "kernel": seconds(lambda: kernel_steps(steps)) / steps * 1e6,
                    "numpy": seconds(lambda: numpy_steps(W, A, B, spectrum)) * micro,
                    "torch": seconds(lambda: torch_steps(*tensors)) * micro,
                }
            )
    return {name: np.array([r[name] for r in rounds]) for name in rounds[0]}


def main() -> None:
    """Time everything, print a table, then the JSON line."""
    result: dict[str, float | int | str] = {
        "threads": available_threads(),
        "processor": platform.processor() or platform.machine(),
        "versions": ", ".join(f"{n} {version(n)}" for n in ("numba", "numpy", "torch")),
    }
    for name, setting in SETTINGS.items():
        rounds = compare(**setting)
        flops = 6 * setting["members"] * setting["width"] * setting["dimension"]
        best = {route: float(rounds[route].min()) for route in ("kernel", "numpy", "torch")}
        peak = float(rounds["gemm"].max())
        rate = flops * setting["outputs"] / best["kernel"] * 1e6
        result |= {f"{name}_{route}_us": round(us, 2) for route, us in best.items()}
        result |= {
            f"{name}_gemm_fraction": round(rate / peak, 3),
            f"{name}_gemm_gflops": round(peak / 1e9, 1),
            f"{name}_vs_numpy_ratio": round(best["numpy"] / best["kernel"], 2),
            f"{name}_vs_torch_ratio": round(best["torch"] / best["kernel"], 2),
        }
        print(
            f"{name}: {setting}\n  best us per step: "
            + ", ".join(f"{k} {v:.1f}" for k, v in best.items())
            + f"; kernel at {rate / 1e9:.1f}, GEMM at {peak / 1e9:.1f} Gflop/s"
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
