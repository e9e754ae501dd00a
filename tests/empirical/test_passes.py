"""Passes over the first images: how far they read, and what they average."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from empirical.reading.batches import Batch, leading
from empirical.reading.batches import batches as checked
from empirical.reading.passes import mean_over_images


def batches(*sizes: int) -> Iterator[Batch]:
    numbers = torch.arange(sum(sizes), dtype=torch.float32).split(list(sizes))
    return checked([(part[:, None], part.long()) for part in numbers])


@pytest.mark.parametrize("images", [1, 3, 4, 7, 100])
def test_the_first_images_come_with_their_labels(images: int) -> None:
    found = list(leading(batches(3, 1, 6), images))
    assert torch.cat([y for _, y in found]).tolist() == list(range(min(images, 10)))
    assert torch.cat([x for x, _ in found])[:, 0].tolist() == list(range(min(images, 10)))
    assert all(len(x) for x, _ in found)


def test_no_batch_is_read_beyond_the_leading() -> None:
    def endless() -> Iterator[Batch]:
        yield from batches(3, 3)
        raise AssertionError("a third batch was read")

    assert [len(x) for x, _ in leading(endless(), 6)] == [3, 3]


def test_no_images_are_no_number_of_images() -> None:
    with pytest.raises(ValueError, match=r"images must be a whole number >= 1; got 0"):
        list(leading(batches(2), 0))


@pytest.mark.parametrize("sizes", [(7,), (1, 6), (2, 2, 2, 2), (10,)])
def test_means_do_not_depend_on_the_batches(sizes: tuple[int, ...]) -> None:
    """Twice through one module counts twice; in evaluation mode, restored afterwards."""
    shared = nn.Linear(1, 2)
    model = nn.Sequential(shared, nn.Dropout(), nn.Linear(2, 1), shared).train()
    found = mean_over_images(model, batches(*sizes), 7, {"0": lambda output: output.mean(0)})
    assert model[1].training
    model.eval()
    with torch.no_grad():
        images = torch.arange(7.0)[:, None]
        once = model[0](images)
        expected = (once + shared(model[2](once))).double().mean(0)
    torch.testing.assert_close(found["0"], expected, rtol=1e-6, atol=1e-6)
    assert found["0"].dtype == torch.float64
