"""Training against a plain loop, with and without interruptions."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from empirical.data.augmentation import EpochPlan, shift_and_mirror
from empirical.data.images import ImageSet, image_loader
from empirical.data.loading import load_data
from empirical.models import ModelSpec
from empirical.training.evaluation import evaluate
from empirical.training.recipes import DIGITS, Recipe
from empirical.training.schedules import checkpoint_steps, one_cycle
from empirical.training.trainer import TrainingDivergedError, train

SPEC = ModelSpec("small_convnet", classes=10, image_size=8, channels=1)
SHORT = Recipe(epochs=2, batch_size=100, crop_padding=1, flip=True, label_smoothing=0.1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


# --- the loop ---------------------------------------------------------------------------------


def test_training_equals_a_plain_loop(digits):
    train_set, _ = digits
    trained = SPEC.build(0)
    train(trained, train_set, recipe=SHORT, seed=5)
    plain = SPEC.build(0).train()
    decayed = [p for p in plain.parameters() if p.ndim > 1]
    others = [p for p in plain.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": SHORT.weight_decay}, {"params": others}],
        lr=0.1,
        momentum=0.9,
        nesterov=True,
    )
    steps_per_epoch = len(train_set) // 100
    total = 2 * steps_per_epoch
    for step in range(total):
        epoch, position = divmod(step, steps_per_epoch)
        plan = EpochPlan.draw(len(train_set), padding=1, flip=True, seed=5, epoch=epoch, device=CPU)
        images, chosen = plan.batch(train_set.images, 100 * position, 100 * (position + 1))
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * one_cycle((step + 0.5) / total, 0.2)
        logits = plain(train_set.normalize(images))
        loss = functional.cross_entropy(logits, train_set.labels[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # The same operations in the same order: equal to the last bit.
    assert same(weights(trained), weights(plain))


def test_the_digits_recipe_reaches_its_accuracy(digits):
    train_set, test_set = digits
    model = SPEC.build(0)
    train(model, train_set, recipe=DIGITS, seed=0)
    assert evaluate(model, image_loader(test_set)).accuracy >= 0.985


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(digits):
    results = []
    for seed in (0, 0, 1):
        model = SPEC.build(0)
        history = train(model, digits[0], recipe=SHORT, seed=seed).history
        results.append((weights(model), history))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not same(results[0][0], results[2][0])


def test_global_generators_are_left_alone(digits):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    train(SPEC.build(0), digits[0], recipe=SHORT)
    assert torch.equal(before, torch.random.get_rng_state())


def test_history_has_a_row_per_checkpoint_and_means_between_them(digits):
    seen = []
    result = train(
        SPEC.build(0),
        digits[0],
        recipe=SHORT,
        steps=[0, 3, 10],
        on_checkpoint=lambda step, model: seen.append((step, model.training)),
    )
    assert [row["step"] for row in result.history] == [0, 3, 10, 22]
    assert seen == [(0, False), (3, False), (10, False), (22, False)]
    assert "loss" not in result.history[0]
    assert result.history[-1]["epoch"] == 2.0
    assert result.history[1]["loss"] > result.history[-1]["loss"]


# --- resuming ---------------------------------------------------------------------------------


class KilledError(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_killed_training_continues_to_the_same_bits(digits, tmp_path, optimizer):
    rate = 0.1 if optimizer == "sgd" else 0.003
    recipe = SHORT.but(optimizer=optimizer, learning_rate=rate, channels_last=True)
    steps = [0, 1, 4, 9, 15]

    def start(name, stop=None):
        def on_checkpoint(step, _):
            if step == stop:
                raise KilledError

        model = SPEC.build(0)
        result = train(
            model,
            digits[0],
            recipe=recipe,
            folder=tmp_path / name,
            spec=SPEC,
            steps=steps,
            on_checkpoint=on_checkpoint,
        )
        return model, result

    whole, expected = start("whole")
    for stop in (4, 15):
        with pytest.raises(KilledError):
            start("parts", stop)
    resumed, found = start("parts")
    assert same(weights(whole), weights(resumed))
    assert found.history == expected.history
    for mine, other in zip(found.checkpoints, expected.checkpoints, strict=True):
        assert mine.read_bytes() == other.read_bytes()


class WithDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images):
        return self.linear(functional.dropout(images.flatten(1), 0.5, self.training))


def test_dropout_resumes_to_the_same_bits(digits, tmp_path):
    def build():
        torch.manual_seed(0)
        return WithDropout()

    def stop(step, _):
        if step == 7:
            raise KilledError

    whole, parts = build(), build()
    train(whole, digits[0], recipe=SHORT, steps=[3, 7])
    options = {"recipe": SHORT, "steps": [3, 7], "folder": tmp_path}
    with pytest.raises(KilledError):
        train(parts, digits[0], on_checkpoint=stop, **options)
    resumed = build()
    train(resumed, digits[0], **options)
    assert same(weights(whole), weights(resumed))


# --- bad input --------------------------------------------------------------------------------


def test_divergence_is_said_with_its_remedy(digits):
    with pytest.raises(
        TrainingDivergedError, match=r"the loss is (nan|inf) by step .* Lower learn"
    ):
        train(WithDropout(), digits[0], recipe=SHORT.but(learning_rate=1e30))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        return logits, logits


def test_models_that_do_not_fit_are_named(digits):
    with pytest.raises(TypeError, match=r"must return logits.*returned tuple"):
        train(Pair(), digits[0], recipe=SHORT)
    seven = ModelSpec("small_convnet", 7, 8, 1).build()
    with pytest.raises(ValueError, match=r"shape \(100, 10\), one per class .*got \(100, 7\)"):
        train(seven, digits[0], recipe=SHORT)


def test_a_batch_larger_than_the_data_is_named(digits):
    with pytest.raises(ValueError, match=r"number of training images \(1198\); got 5000"):
        train(SPEC.build(0), digits[0], recipe=SHORT.but(batch_size=5000))


def test_a_recipe_without_turning_needs_plain_descent():
    with pytest.raises(ValueError, match="turning=False needs optimizer 'sgd'"):
        Recipe(epochs=1, turning=False, optimizer="adamw")


# --- parts ------------------------------------------------------------------------------------


def test_augmentation_equals_padding_cropping_and_flipping():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (7, 3, 6, 5), dtype=np.uint8))
    chosen = torch.tensor([4, 0, 6, 4])
    shift = torch.tensor([[2, -1], [0, 0], [-2, 2], [1, 1]])
    mirrored = torch.tensor([False, True, True, False])
    result = shift_and_mirror(images, chosen, shift, mirrored)
    for row in range(4):
        image = images[chosen[row]].numpy()
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="reflect")
        top, left = 2 + shift[row, 0], 2 + shift[row, 1]
        cropped = padded[:, top : top + 6, left : left + 5]
        expected = cropped[:, :, ::-1] if mirrored[row] else cropped
        assert np.array_equal(result[row].numpy(), expected)


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own():
    plans = [
        EpochPlan.draw(50, padding=2, flip=True, seed=0, epoch=epoch, device=CPU)
        for epoch in (0, 1)
    ]
    for plan in plans:
        assert sorted(plan.order.tolist()) == list(range(50))
        assert int(plan.shift.abs().max()) == 2
        assert 10 < int(plan.mirrored.sum()) < 40
    assert plans[0].order.tolist() != plans[1].order.tolist()


@pytest.mark.parametrize(("total", "wanted"), [(1, 2), (3, 10), (10, 10), (1000, 12), (7, 5)])
def test_checkpoint_steps_are_distinct_ordered_and_end_at_the_end(total, wanted):
    steps = checkpoint_steps(total, log_spaced=wanted)
    assert steps[0] == 0
    assert steps[-1] == total
    assert len(steps) == 1 + min(wanted, total)
    assert list(steps) == sorted(set(steps))


def test_evaluation_equals_the_direct_computation(digits):
    model, (_, test_set) = SPEC.build(0).eval(), digits
    found = evaluate(model, image_loader(test_set, batch_size=100))
    with torch.no_grad():
        logits = model(test_set.normalize(test_set.images)).double()
    losses = functional.cross_entropy(logits, test_set.labels, reduction="none")
    # float32 logits of batches of another size: rounding of some 1e-7 relative each.
    assert found.loss == pytest.approx(float(losses.mean()), rel=1e-5)
    assert found.accuracy == float((logits.argmax(1) == test_set.labels).double().mean())
    assert found.loss_se == pytest.approx(float(losses.std()) / len(losses) ** 0.5, rel=1e-2)
    with pytest.raises(ValueError, match="at least one batch"):
        evaluate(model, [])


def test_bfloat16_and_a_set_of_odd_size_train(digits):
    part: ImageSet = digits[0].subset(range(203))
    recipe = SHORT.but(precision="bfloat16", epochs=4)
    result = train(SPEC.build(0), part, recipe=recipe, steps=[1])
    assert result.history[-1]["step"] == 8
    assert result.history[-1]["loss"] < result.history[0]["loss"]
