"""Networks in wrappers and of other forms, batches and outputs of other forms."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from empirical import (
    Adapter,
    Calibration,
    evaluate,
    find_layers,
    gradient_cosines,
    lesion,
    measure,
    replace,
)
from empirical import prune as pruned

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(64, 3, 8, 8, generator=GENERATOR)
LABELS = torch.arange(64) % 4
PAIR = [(IMAGES, LABELS)]


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4),
        ).eval()  # fmt: skip


def compiled(model):
    wrapped = torch.compile(model, backend="eager")
    with torch.no_grad():
        wrapped(IMAGES)
    return wrapped


def compiled_in_place(model):
    model.compile(backend="eager")
    with torch.no_grad():
        model(IMAGES)
    return model


def answers(model):
    """What every entry point says of a network."""
    table, loader, options = measure(model, PAIR), PAIR, {"layers": ["3"]}
    return {
        "axes": table["3"].task_information,
        "lesion": lesion(model, loader, kinds=["zero"], **options).damage["loss_increase"],
        "replace": replace(model, [other(loader[0])], table, peers="all", **options).predicted,
        "cosines": gradient_cosines(model, loader).cosines["3"],
        "accuracy": evaluate(model, loader).accuracy,
        "pruned": pruned(model, loader).kept["0"],
    }


def other(batch):
    """The same batch with other images: replacements refuse those of the calibration."""
    if isinstance(batch, dict):
        return {**batch, "image": batch["image"] + 1}
    return batch[0] + 1, batch[1]


@pytest.fixture(scope="module")
def plain():
    return answers(network())


def same(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "wrap",
    [
        compiled,
        compiled_in_place,
        nn.DataParallel,
        AveragedModel,
        lambda model: compiled(nn.DataParallel(model)),
    ],
    ids=["compiled", "in place", "parallel", "averaged", "both"],
)
def test_what_a_wrapper_holds_is_read_as_it_is(wrap, plain):
    same(answers(wrap(network())), plain)
    assert [layer.name for layer in find_layers(wrap(network()), IMAGES)] == ["0", "3"]


FORMS = {
    "scripted": lambda: torch.jit.script(network()),
    "scripted ": lambda: torch.jit.trace(network(), IMAGES),
    "exported": lambda: torch.export.export(network(), (IMAGES,)).module(),
    "exported ": lambda: torch.export.export(network(), (IMAGES,)),
    "quantized": lambda: torch.ao.quantization.quantize_dynamic(network(), {nn.Linear}),
    "compiled part": lambda: nn.Sequential(compiled(network()), nn.Linear(4, 4)),
    "parallel part": lambda: nn.Sequential(nn.DataParallel(network()), nn.Linear(4, 4)),
}
CALLS = {
    "measure": lambda model: measure(model, PAIR),
    "lesion": lambda model: lesion(model, PAIR, kinds=["zero"]),
    "replace": lambda model: replace(model, PAIR, {}),
    "prune": lambda model: pruned(model, PAIR),
    "calibrate": lambda model: Calibration(model, PAIR),
    "cosines": lambda model: gradient_cosines(model, PAIR),
    "evaluate": lambda model: evaluate(model, PAIR),
    "find_layers": lambda model: find_layers(model, IMAGES),
}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
@pytest.mark.parametrize("form", FORMS)
def test_other_forms_are_named_with_the_remedy(form):
    model = FORMS[form]()
    for call in CALLS.values():
        with pytest.raises(TypeError, match=rf"^model .*{form.strip()}.*Pass the nn\.Module that"):
            call(model)


class Dicts(nn.Module):
    """Returns what many libraries return."""

    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x):
        logits = self.body(x)
        return {"logits": logits, "more": (logits * 2,)}


ADAPT = Adapter(
    batch=lambda given: (given["image"], given["label"]), output=lambda out: out["logits"]
)


def test_dicts_are_read_through_an_adapter(plain):
    model, before = Dicts(), copy.deepcopy(Dicts().state_dict())
    loader = [{"image": IMAGES, "label": LABELS}]
    table = measure(model, loader, adapt=ADAPT)
    assert table.layers == ["body.0", "body.3"]
    np.testing.assert_allclose(table["body.3"].task_information, plain["axes"], atol=1e-6)
    options = {"layers": ["body.3"], "adapt": ADAPT}
    found = lesion(model, loader, kinds=["zero"], **options)  # a fallback would warn
    np.testing.assert_allclose(found.damage["loss_increase"], plain["lesion"], atol=1e-6)
    found = replace(model, [other(loader[0])], loader, peers="all", **options)
    np.testing.assert_allclose(found.predicted, plain["replace"], atol=1e-6)
    found = gradient_cosines(model, loader, adapt=ADAPT)
    np.testing.assert_allclose(found.cosines["body.3"], plain["cosines"], atol=1e-6)
    assert evaluate(model, loader, adapt=ADAPT).accuracy == plain["accuracy"]
    for known in (loader, Calibration(model, loader, adapt=ADAPT)):
        options = {"adapt": ADAPT} if known is loader else {}
        smaller = pruned(model, known, **options)
        assert type(smaller.model) is Dicts
        assert smaller.kept["body.0"].tolist() == plain["pruned"].tolist()
        assert smaller.model(IMAGES)["more"][0].shape == (64, 4)
    assert type(model) is Dicts
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_without_an_adapter_it_is_named():
    for call in (measure, pruned):
        with pytest.raises(TypeError, match=r"returned a dict.*adapt=Adapter\(output="):
            call(Dicts(), PAIR)
    with pytest.raises(TypeError, match=r"keys 'image', 'label'.*adapt=Adapter\(batch="):
        measure(network(), [{"image": IMAGES, "label": LABELS}])
    with pytest.raises(TypeError, match=r"adapt must be an Adapter; got function"):
        measure(network(), PAIR, adapt=lambda given: given)
    with pytest.raises(TypeError, match=r"output must be a function or None; got str"):
        Adapter(output="logits")
