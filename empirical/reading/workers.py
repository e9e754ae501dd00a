"""Threads for many small matrix products at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch uses, each with its own single-threaded matrix products.

    The matrices of one layer are small: threads that share a product of them wait for each other,
    and much of the work is elementwise, which NumPy does in one thread. And BLAS's own threads,
    which spin for a while after each product, would take turns with torch's on the same cores.
    """
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
    ):
        try:
            yield pool
        except BaseException:
            # an error or Ctrl-C must not wait for all the work still in the queue
            pool.shutdown(wait=False, cancel_futures=True)
            raise
