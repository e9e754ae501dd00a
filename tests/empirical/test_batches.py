import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from empirical.reading.batches import batches

IMAGES, LABELS = torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
BAD_IMAGE = IMAGES.clone()
BAD_IMAGE[2, 0, 0, 0] = float("nan")


def test_data_loader_passes_through():
    loader = DataLoader(TensorDataset(IMAGES, LABELS.int()), batch_size=3)
    got = list(batches(loader))
    assert torch.equal(torch.cat([images for images, _ in got]), IMAGES)
    assert torch.equal(torch.cat([labels for _, labels in got]), LABELS)
    assert got[0].labels.dtype == torch.int64
    assert [(batch.first, batch.number, batch.largest_label) for batch in got] == [
        (0, 0, 2),
        (3, 1, 0),
    ]


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "at least one batch"),
        (5, "must be an iterable of .images, labels.*got int"),
        ([IMAGES], "batch 0 is Tensor"),
        ([(IMAGES, LABELS), (IMAGES, LABELS, LABELS)], "batch 1 is a tuple of 3"),
        ([{"image": IMAGES, "label": LABELS}], "batch 0 is a dict with keys 'image', 'label'"),
        ([(IMAGES, [0, 1, 2, 0])], "a pair of Tensor and list"),
        ([(IMAGES.to(torch.uint8), LABELS)], r"torch\.uint8.*Scale them"),
        ([(IMAGES[:0], LABELS[:0])], r"batch 0 has shape \(0, 3, 8, 8\)"),
        ([(IMAGES, LABELS), (BAD_IMAGE, LABELS)], "batch 1 holds 1 NaN.*in its image 2"),
        ([(IMAGES, LABELS.float())], r"torch\.float32.*argmax"),
        ([(IMAGES, LABELS[:3])], r"4 images and labels of shape \(3,\)"),
        ([(IMAGES, LABELS - 1)], "labels >= 0; batch 0 has -1"),
    ],
)
def test_bad_loaders_are_named(loader, message):
    with pytest.raises((TypeError, ValueError), match=message):
        list(batches(loader))
