"""Names of PyTorch's operations, by what they do to the channels of their arguments."""

from __future__ import annotations

from typing import Any

import torch

CONVOLUTIONS = (
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
)  # fmt: skip

MOVES = (
    "view", "_unsafe_view", "reshape", "flatten", "unflatten", "permute", "transpose", "t",
    "swapaxes", "movedim", "select", "slice", "narrow", "expand", "expand_as", "squeeze",
    "unsqueeze", "cat", "concat", "stack", "split", "split_with_sizes", "chunk", "unsafe_split",
    "unsafe_chunk", "tensor_split", "unbind", "flip", "roll", "constant_pad_nd",
    "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d",
    "replication_pad3d", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "index",
    "index_select", "gather", "repeat", "repeat_interleave", "clone", "contiguous", "detach",
    "alias", "unfold", "im2col", "rot90", "upsample_nearest1d", "upsample_nearest2d",
    "upsample_nearest3d", "diagonal", "tile", "lift_fresh",
)  # fmt: skip
"""Operations that put every element somewhere and compute nothing."""

COPIES = (
    "_to_copy", "dropout", "feature_dropout", "alpha_dropout", "hardswish", "nan_to_num",
    "log_sigmoid",
)  # fmt: skip
"""Elementwise, though not tagged so."""

REDUCTIONS = (
    "mean", "sum", "amax", "amin", "max", "min", "std", "var", "var_mean", "std_mean", "norm",
    "linalg_vector_norm", "prod", "logsumexp", "any", "all", "median", "nanmean", "nansum",
)  # fmt: skip
"""Over positions they keep channels apart, over channels they mix them."""

ALONG = (
    "softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum", "cumprod", "sort",
)  # fmt: skip
"""They mix what lies along their dimension."""

POOLS = (
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices",
    "max_pool3d_with_indices", "max_pool1d_with_indices", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "upsample_linear1d",
    "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa", "upsample_trilinear3d", "lp_pool2d", "grid_sampler",
    "grid_sampler_2d", "grid_sampler_3d",
)  # fmt: skip
"""Operations on all dimensions behind the channels, each channel by itself."""

UNPOOLS = ("max_unpool2d", "max_unpool3d")
"""The same, to places that are given for each channel."""

MIXERS = (
    "gru", "lstm", "rnn_tanh", "rnn_relu", "gru_cell", "lstm_cell", "rnn_tanh_cell",
    "rnn_relu_cell", "scaled_dot_product_attention", "matmul", "einsum",
)  # fmt: skip
"""Composite operations that mix channels, not taken apart."""

MADE = (
    "zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like",
    "new_zeros", "new_ones", "new_full", "new_empty",
)  # fmt: skip
"""New tensors, which belong to no channel until something is written into them."""


def is_elementwise(func: Any) -> bool:
    """Whether an operation takes every element by itself, by its tag.

    Of one that writes in place, that of the other form serves as well: PyTorch 2.11 leaves
    `hardtanh_`, and so ReLU6, without one.

    >>> is_elementwise(torch.ops.aten.hardtanh_.default)
    True
    >>> is_elementwise(torch.ops.aten.cumsum_.default)
    False
    """
    name = func._schema.name.removeprefix("aten::")
    base = name.removesuffix("_")
    if base in COPIES or torch.Tag.pointwise in func.tags:
        return True
    if name == base:
        return False
    other = getattr(torch.ops.aten, base, None)
    form = getattr(other, func._schema.overload_name or "default", None)
    return form is not None and torch.Tag.pointwise in form.tags
