"""Compiled training of linear networks: one member of an ensemble, its weights updated in place.

Inputs are written in the eigenbasis of their within-class covariance (see `sim._sources`). With M
(K, d) the end-to-end map and B the best linear map, every layer is driven by

    G = (M - B) Cov(X)   (population)   or   the mean of (M x - t) xᵀ over a batch,

so that every product, at any depth, has only K rows on one side.
"""

from __future__ import annotations

from sim._compile import compiled, inlined
from sim._products import backward, descend, forward, hold_columns, subtract
from sim._sources import Array, Scratch, Source, batch_signal, population_signal


@inlined
def end_to_end(filters: Array, inner: Array, readout: Array, scratch: Scratch) -> None:
    """Write the maps from each hidden layer to the outputs, then M, to `scratch`.

    `suffix[l]` (K, C) maps hidden layer l + 1 to the outputs; the last one is the readout.
    """
    hidden = inner.shape[0]
    top = scratch.suffix[hidden]
    for k in range(readout.shape[0]):
        for c in range(readout.shape[1]):
            top[k, c] = readout[k, c]
    for layer in range(hidden - 1, -1, -1):
        forward(scratch.suffix[layer + 1], inner[layer], scratch.suffix[layer])
    backward(scratch.suffix[0], filters, scratch.product)


@compiled
def train_linear(
    filters: Array,
    inner: Array,
    readout: Array,
    source: Source,
    rates: Array,
    steps: tuple[int, int],
    limit: float,
    scratch: Scratch,
) -> int:
    """Train a linear network through steps[0]..steps[1]; return the last step made.

    filters (d, C) holds one channel in each column, so that the vectorized loops run over channels;
    inner (L - 2, C, C) and readout (K, C) map to the layer above. `rates` holds the learning rates
    of the hidden layers and of the readout; a readout with rate 0 is fixed. Training stops early,
    before the weights change, at a step whose loss is not below `limit`.
    """
    hidden = inner.shape[0]
    signal = scratch.signal
    end_to_end(filters, inner, readout, scratch)
    for step in range(steps[0], steps[1]):
        if source.batch > 0:
            loss = batch_signal(source, step, scratch)
        else:
            loss = population_signal(source, scratch.product, signal)
        if not loss < limit:
            return step
        if hidden > 0 or rates[1] != 0:
            forward(signal, filters, scratch.prefix[0])
        for layer in range(hidden):
            backward(scratch.prefix[layer], inner[layer], scratch.prefix[layer + 1])
        descend(signal, scratch.suffix[0], rates[0], filters)
        if scratch.directions.shape[0] > 0:
            hold_columns(filters, scratch.directions, scratch.norms)
        for layer in range(hidden):
            descend(scratch.suffix[layer + 1], scratch.prefix[layer], rates[0], inner[layer])
        if rates[1] != 0:
            subtract(rates[1], scratch.prefix[hidden], readout)
        end_to_end(filters, inner, readout, scratch)
    return steps[1]
