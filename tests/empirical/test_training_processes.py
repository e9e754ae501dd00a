"""Training by several processes, and batch norms over all of them."""

import contextlib
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from empirical.data.images import image_loader
from empirical.data.loading import load_data
from empirical.training import distributed
from empirical.training.checkpoints import list_checkpoints, load_model
from empirical.training.evaluation import evaluate

TWO_PROCESSES = """
import sys, torch
from empirical.runs.pipeline import run
torch.set_num_threads(1)
run({"seeds": [0], "device": "cpu", "training": {"epochs": 6, "batch_size": 64},
     "measure": {"checkpoints": 3}, "lesion": {"enabled": True, "images": 50}}, out=sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run([*launch, str(script), str(tmp_path / "out")], check=True)
    model, info = load_model(list_checkpoints(tmp_path / "out" / "seed-0" / "train")[-1])
    assert info.step == 6 * (1078 // 64)
    assert (tmp_path / "out" / "report.html").is_file()
    assert evaluate(model, image_loader(load_data("digits")[1])).accuracy > 0.95


SAME_NETWORK = """
import sys
import torch
from empirical.data.loading import load_data
from empirical.devices import chosen_device
from empirical.models import ModelSpec
from empirical.training.distributed import process_group, rank
from empirical.training.recipes import Recipe
from empirical.training.trainer import train
torch.set_num_threads(1)
spec = ModelSpec("small_convnet", classes=10, image_size=8, channels=1)
recipe = Recipe(epochs=1, batch_size=99, crop_padding=1, flip=True, learning_rate=0.02)
with process_group(chosen_device("cpu")) as device:
    model = spec.build(0)
    result = train(model, load_data("digits")[0], recipe=recipe, steps=[3], device=device)
    if rank() == 0:
        torch.save([model.state_dict(), result.history], sys.argv[1])
"""

REORDERED = 1e-4
"""Of the weights' scale: float32 gradients summed in another order, through a dozen steps."""


@pytest.mark.slow
def test_two_processes_train_the_network_of_one(tmp_path):
    script = tmp_path / "same.py"
    script.write_text(SAME_NETWORK)
    found = []
    for n in (1, 2):
        launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={n}"]
        out = tmp_path / f"{n}.pt"
        subprocess.run([*launch, "--standalone", str(script), str(out)], check=True)
        found.append(torch.load(out))
    (one, history), (two, its) = found
    for name, value in one.items():
        scale = value.abs().max() if value.is_floating_point() else 1
        assert (two[name] - value).abs().max() <= REORDERED * scale, name
    for mine, other in zip(history, its, strict=True):
        assert mine == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 4, 4)])
def test_a_norm_over_all_processes_is_the_norm_of_one(shape, momentum):
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    norms = [kind(3, momentum=momentum) for _ in range(2)]
    images = 2 + torch.randn(shape, generator=torch.Generator().manual_seed(0))
    read = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    gradients = []
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for norm, own in zip(norms, (contextlib.nullcontext(), None), strict=True):
            given = images.clone().requires_grad_()
            with own or distributed.synchronized(norm):
                outputs = [norm(given), norm(given)]
                (outputs[1] * read).sum().backward()
            gradients.append([outputs[1], given.grad, norm.weight.grad, norm.bias.grad])
            assert torch.equal(norm.eval()(images), kind.forward(norm, images))
    finally:
        dist.destroy_process_group()
    for mine, its in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, its)
    for name, value in norms[0].state_dict().items():
        torch.testing.assert_close(norms[1].state_dict()[name], value)
    assert "forward" not in vars(norms[1])
