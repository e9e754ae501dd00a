import numpy as np
import pytest
import torch
from torch import nn

from empirical.analysis.patches import patch_covariance
from empirical.reading.patches import map_size, patches

LAYERS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "strided": nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)),
    "dilated": nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)),
    "same": nn.Conv2d(4, 6, 3, padding="same", dilation=2),
    "same, even kernel": nn.Conv2d(4, 6, 2, padding="same"),
    "reflected": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "circular": nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
    "grouped": nn.Conv2d(4, 6, 3, groups=2, padding="same"),
    "depthwise": nn.Conv2d(4, 8, 3, groups=4, padding=1),
    "pointwise": nn.Conv2d(4, 6, 1),
    "one dimension": nn.Conv1d(4, 6, 3, stride=2, padding=1),
    "three dimensions": nn.Conv3d(4, 6, (1, 3, 2), padding=(0, 1, 0)),
    "linear": nn.Linear(4, 6),
}
SIZES = {nn.Conv1d: (3, 4, 11), nn.Conv3d: (3, 4, 2, 8, 7), nn.Linear: (3, 7, 4)}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_patches_times_weights_are_the_outputs(name):
    module = LAYERS[name].double()
    inputs = torch.randn(SIZES.get(type(module), (3, 4, 9, 8)), dtype=torch.float64)
    output = module(inputs).detach()
    whole = output if name == "linear" else output.flatten(2).mT
    assert map_size(module, inputs) == whole.shape[1]
    places = torch.randint(whole.shape[1], (3, 5), generator=torch.Generator().manual_seed(1))
    found = patches(module, inputs, places)
    groups = getattr(module, "groups", 1)
    weight = module.weight.detach().reshape(groups, -1, found.shape[-1])
    y = torch.einsum("npgd,gcd->npgc", found, weight).flatten(2) + module.bias.detach()
    torch.testing.assert_close(y, whole[torch.arange(3)[:, None], places], rtol=1e-12, atol=1e-12)


def test_the_patch_covariance_is_that_of_all_unfolded_patches():
    images = torch.rand(300, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.unfold(images.double(), 3, padding=1).mT.flatten(0, 1)
    np.testing.assert_allclose(
        patch_covariance(images), torch.cov(rows.T).numpy(), rtol=1e-12, atol=1e-15
    )
