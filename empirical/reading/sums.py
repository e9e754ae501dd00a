"""The one accumulator: streaming sums of first and second moments, kept apart by group of images.

A layer has named variables. Per sample they are (n, P, B, A): n images, P positions of each, B
blocks (of a grouped convolution; else 1), A channels, units or patch entries of a block. Per image
they are (n, q), constant over the positions of the image; their products with the others need only
the sums over each image's positions.

Sums are of deviations from a shift, the mean over a few images, so that a mean a thousand times the
deviation costs no digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from empirical.devices import full_precision
from theory.moments import Moments, trusted_moments
from theory.shared.lapack import add_product, mirror

Float = NDArray[np.float64]
Product = tuple[str, str]
Key = TypeVar("Key", str, Product)

FEW = 8
"""Images of the first batch whose mean is the shift."""

IN_NUMPY = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Totals:
    """Sums over some groups of images, read as moments.

    Attributes
    ----------
    n : number of samples
    shift, first : variable -> (B, A) or (q,) shift, and sum of deviations from it
    products : pair of variables -> (B, A, A'), or without B where both are per image, sums of
        products of deviations; a pair (x, "") holds the squares of x, (B, A)
    """

    n: int
    shift: Mapping[str, Float]
    first: Mapping[str, Float]
    products: Mapping[Product, Float]

    def mean(self, name: str) -> Float:
        """Return the mean of a variable, (B, A) or (q,)."""
        mean: Float = self.shift[name] + self.first[name] / self.n
        return mean

    def covariance(self, left: str, right: str) -> Float:
        """Return the covariance (B, A, A') of two variables, with divisor n - 1."""
        a, b = self.first[left], self.first[right]
        scatter = self.products[left, right] - a[..., :, None] * b[..., None, :] / self.n
        return np.asarray(scatter / max(self.n - 1, 1))

    def variance(self, name: str) -> Float:
        """Return the variances (B, A) of a variable whose squares were added."""
        scatter = self.products[name, ""] - self.first[name] ** 2 / self.n
        return np.asarray(scatter / max(self.n - 1, 1))


class Sums:
    """Sums over samples of one layer, per group of images.

    Parameters
    ----------
    products : pairs of variables whose products are added; (x, "") adds the squares of x alone. A
        variable that is per image stands on the right
    groups : number of groups of images
    device : where the sums are kept and computed
    precision : of the products within a batch; totals are float64 in either case
    about_zero : take no shift, for second moments about zero

    Examples
    --------
    >>> sums = Sums([("y", "y"), ("y", "t")])
    >>> y = torch.tensor([[[1., 0.]], [[3., 2.]]])
    >>> sums.add({"y": y[:, :, None], "t": torch.tensor([[0.], [1.]])}, [2])
    >>> sums.total().covariance("y", "t")
    array([[[1.],
            [1.]]])
    """

    def __init__(
        self,
        products: Sequence[Product],
        *,
        groups: int = 1,
        device: torch.device | str = "cpu",
        precision: torch.dtype = torch.float64,
        about_zero: bool = False,
    ) -> None:
        self.products, self.groups = tuple(products), groups
        self._device, self._precision = torch.device(device), precision
        self._about_zero = about_zero
        self._on_host = self._device.type == "cpu" and precision is torch.float64
        self._counts = np.zeros(groups, dtype=np.int64)
        self._shift: dict[str, Tensor] = {}
        self._first: dict[str, Tensor] = {}
        self._sums: dict[Product, Tensor] = {}
        self._buffers: dict[str, Float] = {}

    def add(
        self,
        values: Mapping[str, Tensor],
        images_per_group: Sequence[int],
        images: NDArray[np.int64] | None = None,
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        values : variable -> (n, P, B, A) or (n, q), the images of a group next to each other
        images_per_group : how many of the n images belong to each group
        images : which they are does not matter to a sum
        """
        if not self._shift:
            self._allocate(values)
        positions = next(value.shape[1] for value in values.values() if value.ndim == 4)
        self._counts += np.asarray(images_per_group) * positions
        if self._on_host:
            self._add_on_host(values, images_per_group, positions)
        else:
            with full_precision():
                self._add_on_device(values, tuple(images_per_group), positions)

    def _allocate(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            few = value[:FEW] if value.ndim == 4 else value
            mean = few.double().mean((0, 1) if value.ndim == 4 else 0)
            # any finite shift serves; in the products' precision, deviations take one operation
            shift = mean.to(self._precision if value.ndim == 4 else torch.float64)
            self._shift[name] = torch.zeros_like(shift) if self._about_zero else shift
            self._first[name] = self._zeros(mean.shape)
        for left, right in self.products:
            wide = self._shift[right].shape[-1:] if right else ()
            self._sums[left, right] = self._zeros((*self._shift[left].shape, *wide))

    def _zeros(self, shape: Sequence[int]) -> Tensor:
        return torch.zeros((self.groups, *shape), dtype=torch.float64, device=self._device)

    # --- on the host ---------------------------------------------------------------------------

    def _add_on_host(
        self, values: Mapping[str, Tensor], images_per_group: Sequence[int], positions: int
    ) -> None:
        """Add in NumPy, a group at a time.

        Its deviations stay in a core's cache, and the products let Python's lock go, so that
        layers are added side by side.
        """
        start = 0
        for group, n in enumerate(images_per_group):
            if n == 0:
                continue
            rows = {
                name: self._deviations(name, value[start : start + n])
                for name, value in values.items()
            }
            start += n
            for name, deviations in rows.items():
                first, axes = self._first[name][group].numpy(), tuple(range(deviations.ndim - 2))
                first += (
                    positions * deviations.sum(0)
                    if deviations.ndim == 2
                    else deviations.sum(axes, dtype=np.float64)
                )
            for pair, total in self._sums.items():
                _add_product(total[group].numpy(), rows, pair, positions)

    def _deviations(self, name: str, part: Tensor) -> Float:
        """Deviations of some images, in the variable's buffer, which the next call overwrites."""
        # NumPy has no bfloat16
        values = (part if part.dtype in IN_NUMPY else part.float()).numpy()
        if name not in self._buffers or self._buffers[name].size < values.size:
            self._buffers[name] = np.empty(values.size)
        deviations = self._buffers[name][: values.size].reshape(values.shape)
        np.subtract(values, self._shift[name].numpy(), out=deviations)
        return deviations

    # --- on a device ---------------------------------------------------------------------------

    def _add_on_device(
        self, values: Mapping[str, Tensor], images_per_group: tuple[int, ...], positions: int
    ) -> None:
        """In torch, all groups at once: as many operations for one group as for a hundred."""
        padding = _padding(images_per_group, self._device)
        per_group: dict[str, Tensor] = {}  # (G, m, P, B, A) or (G, m, q)
        for name, value in values.items():
            shift = self._shift[name]
            deviations = torch.sub(value, shift).to(shift.dtype)
            per_group[name] = _grouped(deviations, self.groups, padding)
            if value.ndim == 4:
                self._first[name] += per_group[name].sum((1, 2), dtype=torch.float64)
            else:
                self._first[name] += positions * per_group[name].sum(1, dtype=torch.float64)
        for (left, right), total in self._sums.items():
            a = per_group[left]
            if right == "":
                total += a.square().sum((1, 2), dtype=torch.float64)
                continue
            b = per_group[right]
            if a.ndim == 3:
                product = positions * (a.mT @ b)
            elif b.ndim == 3:
                of_images = a.sum(2, dtype=torch.float64)
                product = of_images.permute(0, 2, 3, 1) @ b[:, None]
            else:
                product = _blocks(a).mT @ _blocks(b)
            total += product

    # --- results -------------------------------------------------------------------------------

    def total(self, *, without: int | None = None, only: int | None = None) -> Totals:
        """Sums of all groups, of all but one, or of one."""
        if only is not None:
            chosen = np.array([only])
        else:
            chosen = np.delete(np.arange(self.groups), [] if without is None else [without])
        index = torch.as_tensor(chosen, device=self._device)

        def host(value: Tensor) -> Float:
            summed = value[only] if only is not None else value.index_select(0, index).sum(0)
            return np.asarray(summed.cpu().numpy(), dtype=np.float64)

        return Totals(
            int(self._counts[chosen].sum()),
            {name: value.double().cpu().numpy() for name, value in self._shift.items()},
            {name: host(value) for name, value in self._first.items()},
            {pair: self._whole(pair, host(value)) for pair, value in self._sums.items()},
        )

    def _whole(self, pair: Product, product: Float) -> Float:
        """Fill the upper triangle of what is symmetric; on the host nothing is added to it."""
        if pair[0] == pair[1]:
            for block in product.reshape(-1, *product.shape[-2:]):
                mirror(block)
        return product

    def moments(self) -> list[Moments]:
        """Moments of (y, t) per group; of y alone without targets; groups without samples left out.

        The products ("y", "y"), and with targets ("y", "t") and ("t", "t"), must have been added.
        """
        host = self._copied_to_host()
        return [host._group(g) for g in range(self.groups) if self._counts[g] > 0]

    def _copied_to_host(self) -> Sums:
        """The same sums on the host: one transfer each, not one for each group."""
        found = copy(self)
        found._device = torch.device("cpu")
        found._shift, found._first = _on_host(self._shift), _on_host(self._first)
        found._sums = _on_host(self._sums)
        return found

    def _group(self, group: int) -> Moments:
        of_group = self.total(only=group)
        mean, cov = of_group.mean("y")[0], of_group.covariance("y", "y")[0]
        if "t" not in self._first:
            return trusted_moments(mean, cov, 0, of_group.n)
        cross, targets = of_group.covariance("y", "t")[0], of_group.covariance("t", "t")
        joint = np.block([[cov, cross], [cross.T, targets]])
        mean = np.concatenate([mean, of_group.mean("t")])
        return trusted_moments(mean, joint, targets.shape[0], of_group.n)


def _on_host(values: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
    return {name: value.cpu() for name, value in values.items()}


def _add_product(total: Float, rows: Mapping[str, Float], pair: Product, positions: int) -> None:
    """Add the products of one group's deviations to `total`, in place."""
    left, right = pair
    a = rows[left]
    if right == "":
        total += np.einsum("npba,npba->ba", a, a)
        return
    b = rows[right]
    if a.ndim == 2:
        total += positions * (a.T @ b)
    elif b.ndim == 2:
        total += a.sum(1).transpose(1, 2, 0) @ b
    else:
        x = _host_blocks(a)
        if right == left:
            for rows_of_block, product in zip(x, total, strict=True):
                add_product(product, rows_of_block)  # to its lower triangle; see `total`
            return
        for product, x_of_block, y_of_block in zip(total, x, _host_blocks(b), strict=True):
            product += x_of_block.T @ y_of_block


def _host_blocks(deviations: Float) -> Float:
    """(n, P, B, A) as (B, n P, A)."""
    _, _, blocks, width = deviations.shape
    rows = deviations.reshape(-1, blocks, width).transpose(1, 0, 2)
    return np.ascontiguousarray(rows)


def _blocks(deviations: Tensor) -> Tensor:
    """(G, m, P, B, A) as (G, B, m P, A)."""
    return deviations.flatten(1, 2).transpose(1, 2)


def _grouped(values: Tensor, groups: int, padding: tuple[Tensor, Tensor] | None) -> Tensor:
    """(n, ...) as (G, m, ...), zeros where a group has fewer than m images."""
    if padding is not None:
        index, mask = padding
        values = values[index] * mask.reshape(-1, *(1,) * (values.ndim - 1))
    return values.reshape(groups, -1, *values.shape[1:])


@lru_cache(maxsize=8)
def _padding(
    images_per_group: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Image at each of the G m places, and whether there is one; None where all are full."""
    most = max(images_per_group)
    if min(images_per_group) == most:
        return None
    starts = np.cumsum([0, *images_per_group[:-1]])
    place = np.arange(most)
    index = np.minimum(starts[:, None] + place, sum(images_per_group) - 1)
    mask = place < np.asarray(images_per_group)[:, None]
    return (
        torch.from_numpy(index.ravel()).to(device),
        torch.from_numpy(mask.ravel()).to(device),
    )
