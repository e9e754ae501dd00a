import numpy as np
import pytest
import torch
from torch import nn

from empirical import measure

IMAGES = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 4


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)
        )


class SmallMemory(nn.Module):
    """Runs out of memory, inside the network, above some batch size."""

    def __init__(self, largest):
        super().__init__()
        self.first, self.rest, self.largest = net()[:1], net()[1:], largest

    def forward(self, x):
        y = self.first(x)
        if len(x) > self.largest:
            raise torch.OutOfMemoryError("out of memory")
        return self.rest(y)


def test_out_of_memory_halves_the_batch_says_so_and_changes_nothing():
    loader = [(IMAGES[:33], LABELS[:33]), (IMAGES[33:], LABELS[33:])]
    with pytest.warns(RuntimeWarning, match=r"batch of 17 images; going on in batches of 8"):
        halved = measure(SmallMemory(10).double(), [(x.double(), y) for x, y in loader])
    plain = measure(SmallMemory(99).double(), [(x.double(), y) for x, y in loader])
    assert halved.settings["n_images"] == 40
    np.testing.assert_allclose(
        halved.moments["first.0"].cov, plain.moments["first.0"].cov, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("null", [0, 5])
def test_a_batch_in_parts_adds_what_the_whole_batch_adds(monkeypatch, null):
    sizes, looks = [], 3  # at one image, before the start

    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net().double()

        def forward(self, x):
            sizes.append(len(x))
            return self.net(x)

    def centred_labels(logits, labels):
        """A target of the batch as a whole: it must not see the parts."""
        return labels - labels.double().mean()

    def measured():
        sizes.clear()
        return measure(
            Seen(),
            [(IMAGES.double(), LABELS)],
            target=centred_labels,
            positions=5,
            groups=7,
            null=null,
        )

    monkeypatch.setattr("empirical.reading.recorder.PART", 40)
    whole = measured()
    assert sizes[looks:] == [40]
    monkeypatch.setattr("empirical.reading.recorder.PART", 3)
    monkeypatch.setattr("empirical.reading.recorder.PART_BYTES", 12_000)
    parts = measured()
    assert max(sizes[looks:]) <= 6
    assert sum(sizes[looks:]) == 40
    for name, moments in whole.moments.items():
        np.testing.assert_allclose(parts.moments[name].cov, moments.cov, rtol=1e-12, atol=1e-14)
    for name, errors in whole.standard_errors("net.0").items():
        np.testing.assert_allclose(parts.standard_errors("net.0")[name], errors, rtol=1e-8)
    for name, draws in whole.null.get("net.0", {}).items():
        np.testing.assert_allclose(parts.null["net.0"][name], draws, rtol=1e-8)


class NoMemoryLeft(nn.Module):
    """The look at one image before the start succeeds; nothing after it does."""

    def __init__(self):
        super().__init__()
        self.net, self.calls = net(), 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 3:
            raise torch.OutOfMemoryError("out of memory")
        return self.net(x)


@pytest.mark.filterwarnings("ignore:out of device memory:RuntimeWarning")
def test_out_of_memory_with_one_image_ends_with_a_remedy():
    with pytest.raises(torch.OutOfMemoryError, match=r"a batch of one image\. Use smaller images"):
        measure(NoMemoryLeft(), [(IMAGES, LABELS)])


def test_autocast_runs_the_model_low_and_the_moments_high():
    seen = []
    model = net()
    model[1].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].dtype))
    table = measure(model, [(IMAGES, LABELS)], autocast=torch.bfloat16, positions=100)
    assert torch.bfloat16 in seen
    with torch.autocast("cpu", torch.bfloat16):
        output = model[0](IMAGES)
    rows = output.detach().double().movedim(1, -1).flatten(0, 2)
    # the moments of the bfloat16 values themselves are exact
    expected = torch.cov(rows.T).numpy()
    np.testing.assert_allclose(table.moments["0"].cov[:6, :6], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_moments_ignore_an_autocast_of_the_caller(precision):
    with torch.autocast("cpu", torch.bfloat16):
        table = measure(net(), [(IMAGES, LABELS)], positions=100, precision=precision)
        output = net()[0](IMAGES)
    rows = output.detach().double().movedim(1, -1).flatten(0, 2)
    tolerance = 1e-5 if precision == "float32" else 1e-10
    deviation = np.abs(table.moments["0"].cov[:6, :6] - torch.cov(rows.T).numpy()).max()
    assert deviation < tolerance * rows.var(0).max()


def test_float32_products_agree_with_float64():
    one, two = (
        measure(net(), [(IMAGES, LABELS)], precision=precision)
        for precision in ("float32", "float64")
    )
    for quantity in ("signal_power", "peer_predictability", "task_information"):
        np.testing.assert_allclose(
            getattr(one["0"], quantity), getattr(two["0"], quantity), rtol=1e-4, atol=1e-6
        )


class Sometimes(nn.Module):
    def __init__(self):
        super().__init__()
        self.always, self.rarely = nn.Linear(192, 5), nn.Linear(5, 5)
        self.head = nn.Linear(5, 4)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        y = self.always(x.flatten(1))
        return self.head(self.rarely(y) if self.calls < 3 else y)


def test_layer_that_does_not_always_run_is_named():
    with pytest.raises(ValueError, match="layer 'rarely' did not run on batch 0"):
        measure(Sometimes(), [(IMAGES, LABELS)])


def test_shared_module_pools_its_uses():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

        def forward(self, x):
            return self.head(self.shared(torch.tanh(self.shared(x))))

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, x = Twice().double(), torch.randn(40, 6, dtype=torch.float64)
    table = measure(model, [(x, LABELS)])
    first = model.shared(x)
    both = torch.cat([first, model.shared(torch.tanh(first))]).detach()
    assert table["shared"].n == 80
    np.testing.assert_allclose(table["shared"].signal_power, both.var(0).numpy(), rtol=1e-12)


def test_memory_needed_is_checked_before_the_start(monkeypatch):
    class Little:
        available = 1000

    monkeypatch.setattr("empirical.measuring.memory.psutil.virtual_memory", lambda: Little)
    with pytest.raises(MemoryError, match=r"needs up to .* GB .*Measure fewer layers at a time"):
        measure(net(), [(IMAGES, LABELS)])


def test_progress_says_how_much_memory_is_needed(capsys):
    measure(net(), [(IMAGES, LABELS)], progress=True)
    assert "measuring needs up to 0." in capsys.readouterr().out
