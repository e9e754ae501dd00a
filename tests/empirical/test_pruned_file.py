"""Saving and loading without pickles, refusals, exports checked by running, and latency."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from empirical import PrunedModel, prune
from empirical.models import ModelSpec
from empirical.pruning.export import export_onnx, export_program
from empirical.pruning.latency import Latency, latencies, onnx_latencies
from empirical.pruning.pruned_file import load_pruned, save_pruned
from tests.empirical.pruning_networks import awakened, batches, plain
from tests.empirical.test_removal import Grouped, NormedEach

SPEC = ModelSpec("mobilenetv2", classes=10, image_size=16, width=0.25)
EXPORT_TOLERANCE = 1e-4
"""ONNX Runtime fuses and reorders float32 sums."""


@pytest.fixture(scope="module")
def pruned() -> PrunedModel:
    model = awakened(SPEC.build(0))
    return prune(model, batches(3, 16, count=4, each=90), macs=0.5, recovery="compensate")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_a_new_process_computes_the_same(
    tmp_path: Path, pruned: PrunedModel, images: torch.Tensor
) -> None:
    path = save_pruned(tmp_path / "p.safetensors", pruned, spec=SPEC)
    np.save(tmp_path / "images.npy", images.numpy())
    script = (
        "import sys, numpy as np, torch\n"
        "from empirical.pruning.pruned_file import load_pruned\n"
        "folder = sys.argv[1]\n"
        "model = load_pruned(folder + '/p.safetensors').model\n"
        "images = torch.from_numpy(np.load(folder + '/images.npy'))\n"
        "np.save(folder + '/logits.npy', model(images).detach().numpy())\n"
    )
    assert path.is_file()
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    with torch.no_grad():
        expected = pruned.model(images).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [plain, Grouped, NormedEach])
def test_a_network_of_ones_own_is_filled_in(tmp_path: Path, make: type[nn.Module]) -> None:
    model = make().eval()
    size = 6 if make is plain else 8
    mine = prune(model, batches(3, size, count=4), macs=0.5, recovery="merge")
    path = save_pruned(tmp_path / "p.safetensors", mine)
    loaded = load_pruned(path, make())
    images = batches(3, size)[0][0]
    with torch.no_grad():
        assert torch.equal(loaded.model(images), mine.model(images))
    assert loaded.spec is None
    assert loaded.report["macs_after"] == mine.report.macs_after
    with pytest.raises(ValueError, match=r"not built by name\. Pass model"):
        load_pruned(path)


def test_foreign_and_truncated_files_are_refused(tmp_path: Path, pruned: PrunedModel) -> None:
    path = save_pruned(tmp_path / "p.safetensors", pruned, spec=SPEC)
    whole = path.read_bytes()
    for length in (4, 100, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"p\.safetensors"):
            load_pruned(path)
    path.write_bytes(b"PK\x03\x04" + b"\x00" * 200)
    with pytest.raises(ValueError, match=r"p\.safetensors"):
        load_pruned(path)
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"p\.safetensors"):
        load_pruned(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        load_pruned(tmp_path / "absent.safetensors")


def test_a_checkpoint_is_no_pruned_file(tmp_path: Path) -> None:
    from empirical.training.checkpoints import write_tensors

    write_tensors(tmp_path / "c.safetensors", {"a": torch.ones(1)}, {"info": {}})
    with pytest.raises(ValueError, match="is not a pruned network of save_pruned"):
        load_pruned(tmp_path / "c.safetensors")


def test_a_model_of_another_architecture_is_refused(tmp_path: Path, pruned: PrunedModel) -> None:
    path = save_pruned(tmp_path / "p.safetensors", pruned, spec=SPEC)
    with pytest.raises(ValueError, match="which model does not have"):
        load_pruned(path, plain())


def test_a_masked_network_is_not_saved(tmp_path: Path) -> None:
    masked = prune(plain(), batches(3, 6), criterion="l2", recovery="none", path="masked")
    with pytest.raises(ValueError, match="must have its channels removed to be saved"):
        save_pruned(tmp_path / "p.safetensors", masked)
    assert not list(tmp_path.iterdir())


def test_exports_compute_the_same_at_another_batch_size(
    tmp_path: Path, pruned: PrunedModel, images: torch.Tensor
) -> None:
    import onnxruntime  # heavy, and this test alone needs it

    assert export_onnx(tmp_path / "p.onnx", pruned.model, images) < EXPORT_TOLERANCE
    export_program(tmp_path / "p.pt2", pruned.model, images)
    other = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = pruned.model(other).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "p.onnx")
    found = session.run(None, {"images": other.numpy()})[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=EXPORT_TOLERANCE)
    program = torch.export.load(tmp_path / "p.pt2").module()
    np.testing.assert_allclose(program(other).detach().numpy(), expected, atol=EXPORT_TOLERANCE)


@pytest.mark.parametrize("timed", [latencies, onnx_latencies])
def test_latency_is_measured_in_turns(timed: Callable[..., list[Latency]]) -> None:
    small, large = timed(
        [nn.Conv2d(3, 2, 1), nn.Conv2d(3, 256, 7)], torch.zeros(4, 3, 32, 32), repeats=5
    )
    assert 0 < small.low <= small.median <= small.high
    assert small.median < large.median  # thousands of times the work
    assert small.images == 4
