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


class Reaching:
    """A runtime that computes something else but for the first logit."""

    def __init__(self, first: float) -> None:
        self.first = first

    def run(self, *_: object) -> list[np.ndarray]:
        return [np.array([[self.first, 100.0, 0.0]] * 2, np.float32)]


@pytest.mark.parametrize("first", [-np.inf, np.nan])
def test_a_logit_that_is_no_number_hides_no_other(
    first: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        model[1].bias[0] = first
    images = torch.randn(2, 1, 2, 2)
    assert export_onnx(tmp_path / "a.onnx", model, images) < 1e-5
    export_program(tmp_path / "a.pt2", model, images)
    monkeypatch.setattr("empirical.pruning.export.onnx_session", lambda *_: Reaching(first))
    with pytest.raises(RuntimeError, match="ONNX Runtime differs from torch by"):
        export_onnx(tmp_path / "b.onnx", model, images)
    assert not (tmp_path / "b.onnx").exists()


def test_exports_judge_by_the_digits_of_the_type(tmp_path: Path) -> None:
    """One of half precision is right to its own digits; what ONNX Runtime lacks is named."""
    model, images = plain(), torch.randn(4, 3, 6, 6)
    assert export_onnx(tmp_path / "a.onnx", model.half(), images.half()) < 0.02
    with pytest.raises(TypeError, match=r"images\.float\(\), and model\.float\(\)"):
        onnx_latencies([model.bfloat16()], images.bfloat16())
    with pytest.raises(RuntimeError, match=r"on images of float64: .*Pass images\.float\(\)"):
        export_onnx(tmp_path / "b.onnx", model.double(), images.double())
    assert [f.name for f in tmp_path.iterdir()] == ["a.onnx"]
    chosen = nn.Sequential(nn.Flatten(), Largest())
    assert export_onnx(tmp_path / "c.onnx", chosen, images.float()) == 0


class Largest(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.argmax(1)


class Both(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize("export", [export_onnx, export_program])
def test_what_cannot_be_exported_is_refused_by_name(
    export: Callable[..., object], tmp_path: Path
) -> None:
    model, images, file = plain(), torch.randn(4, 3, 6, 6), tmp_path / "file"
    export(file, model, images.requires_grad_())
    with pytest.raises(TypeError, match="example must be a Tensor; got the list"):
        export(file, model, [images])
    with pytest.raises(ValueError, match=r"at least one; got shape \(0, 3, 6, 6\)"):
        export(file, model, images[:0])
    with pytest.raises(TypeError, match="it returned a tuple"):
        export(file, Both(), images)
    for timed in (latencies, onnx_latencies):
        with pytest.raises((TypeError, ValueError), match="images must be"):
            timed([nn.Sequential(nn.BatchNorm2d(3)).eval()], images[0])
