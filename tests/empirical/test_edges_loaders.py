"""Loaders and labels of every form: read right, or refused by name."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from empirical import (
    Adapter,
    Calibration,
    damage,
    evaluate,
    forecast,
    gradient_cosines,
    lesion,
    measure,
    replace,
)
from empirical import prune as pruned
from empirical.reading.batches import batches, length

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(64, 3, 8, 8, generator=GENERATOR)
LABELS = torch.arange(64) % 4
PAIR = [(IMAGES, LABELS)]


class Stream(IterableDataset):
    """Yields every image in every worker, or only the worker's share."""

    def __init__(self, divide):
        self.divide = divide

    def __iter__(self):
        worker = get_worker_info()
        step = worker.num_workers if worker is not None and self.divide else 1
        start = worker.id if worker is not None and self.divide else 0
        for i in range(start, len(IMAGES), step):
            yield IMAGES[i], int(LABELS[i])


def network(outputs=4):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, outputs),
        ).eval()  # fmt: skip


def test_a_stream_without_length_is_measured_and_lesioned_as_its_images():
    stream = DataLoader(Stream(divide=False), batch_size=16)
    assert length(stream) is None
    found, expected = measure(network(), stream), measure(network(), PAIR)
    for name in expected.layers:
        assert found[name].n == expected[name].n
        np.testing.assert_allclose(
            found[name].peer_predictability, expected[name].peer_predictability, atol=1e-6
        )
    assert measure(network(), stream, null=2).null.keys() == set(expected.layers)
    damage = lesion(network(), stream, kinds=["zero"], layers=["3"]).damage["loss_increase"]
    whole = lesion(network(), PAIR, kinds=["zero"], layers=["3"]).damage["loss_increase"]
    np.testing.assert_allclose(damage, whole, atol=1e-6)


def test_workers_that_each_read_everything_are_refused_and_divided_ones_are_read():
    copies = DataLoader(Stream(divide=False), batch_size=16, num_workers=2)
    with pytest.raises(ValueError, match=r"batch 1 came before.*2 workers.*get_worker_info"):
        measure(network(), copies)
    adapt = Adapter(batch=lambda pair: tuple(pair))
    with pytest.raises(ValueError, match="num_workers=0"):
        list(batches(adapt.loader(copies)))
    divided = DataLoader(Stream(divide=True), batch_size=16, num_workers=2)
    assert measure(network(), divided).settings["n_images"] == 64


def test_images_that_repeat_are_warned_of():
    class Twice:
        def __iter__(self):
            return iter(PAIR * 2)

    with pytest.warns(RuntimeWarning, match="128 images of which only 64 differ"):
        measure(network(), Twice())


def test_batches_of_one_image_count_as_much_as_others():
    single = [(IMAGES[i : i + 1], LABELS[i : i + 1]) for i in range(64)]
    found, expected = measure(network(), single), measure(network(), PAIR)
    for name in expected.layers:
        np.testing.assert_allclose(
            found[name].task_information, expected[name].task_information, atol=1e-6
        )
    assert evaluate(network(), single).accuracy == evaluate(network(), PAIR).accuracy


def test_a_sorted_loader_is_warned_of_also_where_its_first_batch_is_mixed():
    order = LABELS.argsort(stable=True)
    ordered = [(IMAGES[order][:24], LABELS[order][:24]), (IMAGES[order][24:], LABELS[order][24:])]
    with pytest.warns(UserWarning, match=r"first half of 64 .* holds 2 of 4 classes.*sorted"):
        pruned(network(), ordered)
    pruned(network(), PAIR)


# --- labels that are no class numbers ---------------------------------------------------------

OTHERS = {
    "floats": torch.linspace(-1, 1, 64),
    "column": torch.linspace(-1, 1, 64)[:, None],
    "multi-hot": nn.functional.one_hot(LABELS, 4),
    "dense": LABELS[:, None, None].expand(64, 8, 8).clone(),
    "signs": LABELS % 2 * 2 - 1,
}


def squared(outputs, labels):
    return (outputs.flatten(1).mean(1) - labels.flatten(1).double().mean(1)) ** 2


@pytest.mark.parametrize("kind", OTHERS)
def test_labels_of_any_form_go_with_a_function(kind):
    labels = OTHERS[kind].reshape(64, -1) if kind in ("floats", "signs") else OTHERS[kind]
    loader, given = [(IMAGES, labels)], [(IMAGES, OTHERS[kind])]
    target = lambda outputs, y: y.flatten(1)[:, 0].double()  # noqa: E731
    table = measure(network(1), loader, target=target)
    assert np.isfinite(table["0"].task_information).all()
    assert np.isfinite(gradient_cosines(network(1), loader, target=target).cosines["0"]).all()
    damage = lesion(network(1), loader, kinds=["zero"], layers=["3"], loss=squared)
    dense = (network(1)(IMAGES).double().mean(1) - labels.double().flatten(1).mean(1)) ** 2
    np.testing.assert_allclose(damage.dense["loss"], dense.detach().numpy(), rtol=1e-4)
    assert np.isnan(damage.dense["accuracy"]).all()
    assert np.isfinite(damage.damage["loss_increase"]).all()
    assert np.abs(damage.damage["loss_increase"]).max() > 0
    held_out = [(IMAGES + 1, labels)]
    replaced = replace(network(1), held_out, table, peers="all", loss=squared)
    assert np.isfinite(replaced.damage["loss_increase"]).all()
    with pytest.raises((TypeError, ValueError), match=r"target= or loss=|labels >= 0"):
        measure(network(), given)
    with pytest.raises((TypeError, ValueError), match=r"target= or loss=|labels >= 0"):
        lesion(network(), given, kinds=["zero"])


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("recovery", ["compensate", "reconstruct", "fold"])
def test_pruning_without_labels_reads_none(kind, recovery):
    options = {"criterion": "replaceability", "recovery": recovery}
    expected = pruned(network(), PAIR, **options)
    found = pruned(network(), [(IMAGES, OTHERS[kind])], **options)
    assert found.report.channels == expected.report.channels
    torch.testing.assert_close(found.model(IMAGES), expected.model(IMAGES))


def test_pruning_that_reads_labels_says_which_it_needs():
    loader = [(IMAGES, OTHERS["floats"])]
    for options in ({"criterion": "taylor"}, {"allocation": "sensitivity"}):
        with pytest.raises(TypeError, match=r"class numbers.*batch 0 has torch.float32"):
            pruned(network(), loader, **options)
    target = Calibration(network(), loader, target=lambda outputs, y: y)
    assert np.isfinite(target.axes["0"].task_information).all()


@pytest.mark.parametrize("call", [measure, lesion, evaluate])
def test_the_cross_entropy_of_one_output_is_refused(call):
    options = {"kinds": ["zero"]} if call is lesion else {}
    with pytest.raises(ValueError, match=r"at least 2 classes.*, 1\).*target= or loss="):
        call(network(1), [(IMAGES, LABELS * 0)], **options)


def test_a_loss_that_is_not_finite_on_the_intact_network_is_refused():
    def loss(outputs, labels):
        return (outputs[:, 0] - outputs[:, 0].max()).log()

    with pytest.raises(ValueError, match=r"loss must be finite on the intact network; on batch 0"):
        lesion(network(), [(IMAGES, LABELS)], kinds=["zero"], loss=loss)


def test_a_loss_that_averages_over_images_is_refused():
    with pytest.raises(ValueError, match=r"loss must return one value for each of 64 images"):
        lesion(network(), PAIR, kinds=["zero"], loss=nn.functional.cross_entropy)


UNSUITED = {
    "float64": (IMAGES.double(), LABELS),
    "float16": (IMAGES.half(), LABELS),
    "channels last": (IMAGES.movedim(1, -1), LABELS),
}


@pytest.mark.parametrize("kind", UNSUITED)
@pytest.mark.parametrize(
    "call", [measure, lesion, damage, evaluate, gradient_cosines, forecast, pruned]
)
def test_images_that_do_not_suit_the_model_are_refused_with_their_shape_and_type(call, kind):
    images = UNSUITED[kind][0]
    options = {"kinds": ["zero"]} if call is lesion else {}
    said = r"model (must run on|\(Sequential\) could not be traced)"
    with pytest.raises(ValueError, match=said) as caught:
        call(network(), [UNSUITED[kind]], **options)
    if call is not pruned:
        assert str(images.dtype) in str(caught.value)
        assert str(tuple(images.shape[1:]))[1:] in str(caught.value)
        assert "weights are torch.float32" in str(caught.value)


def test_images_that_keep_gradients_are_read_without_them():
    expected = pruned(network(), PAIR, criterion="taylor")
    found = pruned(network(), [(IMAGES.clone().requires_grad_(), LABELS)], criterion="taylor")
    torch.testing.assert_close(found.model(IMAGES), expected.model(IMAGES))


def test_images_of_several_sizes_are_pruned_by_what_needs_no_stack_of_them():
    loader = [(IMAGES, LABELS), (torch.randn(16, 3, 10, 10, generator=GENERATOR), LABELS[:16])]
    with pytest.raises(ValueError, match=r"one size.*\(3, 8, 8\) and \(3, 10, 10\).*compensate"):
        pruned(network(), loader, recovery="reconstruct")
    assert pruned(network(), loader).report.recovery == "compensate"


def test_labels_beyond_the_classes_foretell_no_accuracy():
    with pytest.raises(ValueError, match="the loader gives 4 and the model has 4 outputs"):
        forecast(network(), [(IMAGES, LABELS + 1)])


def test_what_reads_predictions_of_one_output_is_refused_and_the_rest_prunes():
    loader = [(IMAGES, LABELS % 2)]
    for options in (
        {"allocation": "damage", "criterion": "task_replaceability"},
        {"criterion": "taylor"},
        {"recovery": "distill"},
    ):
        with pytest.raises(ValueError, match=r"at least 2 classes.*read no predictions"):
            pruned(network(1), loader, **options)
    with pytest.raises(ValueError, match=r"at least 2 classes to be foretold.*\(12, 1\)"):
        forecast(network(1), loader)
    chosen = pruned(network(1), loader)  # by the outputs' squared difference
    other = {"reconstruct": "compensate", "compensate": "reconstruct"}[chosen.report.recovery]
    known = Calibration(network(1), loader)
    fitted, held = known.held_out()
    error = {}
    for recovery in (chosen.report.recovery, other):
        left = pruned(fitted.model, fitted, recovery=recovery, counts=kept_counts(chosen))
        images = torch.cat([batch[0] for batch in held])
        with torch.no_grad():
            error[recovery] = float((left.model(images) - known.model(images)).square().mean())
    assert error[chosen.report.recovery] < error[other]


def kept_counts(found):
    return {name: kept for name, (_, kept) in found.report.channels.items()}


def test_damage_under_a_loss_of_flat_outputs_is_that_of_a_column():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(1)

        def forward(self, images):
            return self.inner(images).squeeze(1)

    labels = torch.linspace(-1, 1, 64)
    loss = lambda outputs, y: (outputs.reshape(-1) - y.double()) ** 2  # noqa: E731
    flat, column = (  # at all positions: which are drawn depends on the layers' names
        damage(model, [(IMAGES, labels)], loss=loss, positions=36).to_frame()
        for model in (Flat(), network(1))
    )
    np.testing.assert_allclose(flat.damage_alone, column.damage_alone, rtol=1e-5)
