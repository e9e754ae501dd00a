"""Speed of ensemble training against batched NumPy, batched PyTorch and the machine's GEMM rate.

Run: python benchmarks/simulation.py        (about a minute; use a machine that does nothing else)

All three train the same two-layer linear networks by the same steps, in the eigenbasis of Σ:

    G = (A W - B) ∘ λ,   W -= η Aᵀ G,   A -= η G Wᵀ.

Counted are the 3 K C d multiply-adds of the three products, 2 flops each, and nothing else. The
GEMM rate is the better of NumPy's and PyTorch's on square float64 matrices, on all cores, in the
same run. Rounds alternate between the implementations; the best round of each counts, so that
other work on the machine disturbs all of them alike. The last line is one JSON object.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch

from sim import Network, Regression, power_law
from sim._ensemble import advance_all, build_members
from sim.simulation import available_threads

SETTINGS = {
    "large": {"members": 16, "width": 128, "dimension": 64, "outputs": 10, "steps": 1000},
    "small": {"members": 64, "width": 32, "dimension": 16, "outputs": 1, "steps": 4000},
}
RATE = 1e-3
ROUNDS = 7
BATCHED_STEPS = 200


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gemm_rate() -> float:
    """Best float64 rate on square matrices, flops per second."""
    best = 0.0
    for size in (512, 1024, 2048):
        a, b = np.random.default_rng(0).standard_normal((2, size, size))
        out, ta, tb = np.empty_like(a), torch.from_numpy(a), torch.from_numpy(b)
        for work in (lambda: np.matmul(a, b, out=out), lambda: torch.mm(ta, tb)):  # noqa: B023
            work()
            best = max(best, 2 * size**3 / min(seconds(work) for _ in range(5)))
    return best


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


def compare(members: int, width: int, dimension: int, outputs: int, steps: int) -> dict[str, float]:
    """Microseconds per step of the whole ensemble, for each implementation."""
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
    best = dict.fromkeys(("kernel", "numpy", "torch"), np.inf)
    with ThreadPoolExecutor(available_threads()) as pool:

        def kernel_steps(number: int) -> None:
            for _ in advance_all(ensemble, network, rates, [0, number], pool):
                pass

        kernel_steps(1)  # compile
        for _ in range(ROUNDS):
            times = {
                "kernel": seconds(lambda: kernel_steps(steps)) / steps,
                "numpy": seconds(lambda: numpy_steps(W, A, B, spectrum)) / BATCHED_STEPS,
                "torch": seconds(lambda: torch_steps(*tensors)) / BATCHED_STEPS,
            }
            best = {name: min(best[name], 1e6 * value) for name, value in times.items()}
    return best


def main() -> None:
    """Time everything, print a table, then the JSON line."""
    peak = gemm_rate()
    result: dict[str, float | int | str] = {
        "gemm_gflops": round(peak / 1e9, 1),
        "threads": available_threads(),
        "processor": platform.processor() or platform.machine(),
        "versions": f"numba {numba.__version__}, numpy {np.__version__}, torch {torch.__version__}",
    }
    for name, setting in SETTINGS.items():
        best = compare(**setting)
        flops = 6 * setting["members"] * setting["width"] * setting["dimension"]
        rate = flops * setting["outputs"] / best["kernel"] * 1e6
        print(
            f"{name}: {setting}\n  us per step: "
            + ", ".join(f"{k} {v:.1f}" for k, v in best.items())
            + f"; kernel at {rate / 1e9:.1f} of {peak / 1e9:.1f} Gflop/s"
        )
        result |= {
            f"{name}_vs_numpy_ratio": round(best["numpy"] / best["kernel"], 2),
            f"{name}_vs_torch_ratio": round(best["torch"] / best["kernel"], 2),
            f"{name}_gemm_fraction": round(rate / peak, 3),
            f"{name}_kernel_us": round(best["kernel"], 2),
            f"{name}_numpy_us": round(best["numpy"], 2),
            f"{name}_torch_us": round(best["torch"], 2),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
