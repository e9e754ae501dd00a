"""Every quantity of the two axes written from its equation, one channel and one pair at a time.

Imports nothing from the package: the twin that `channel_axes` must equal.
"""

import numpy as np


def information(cov, x, y):
    """I(X; Y) of index lists x, y by log-determinants of blocks."""

    def logdet(index):
        return np.linalg.slogdet(cov[np.ix_(index, index)])[1] if index else 0.0

    return 0.5 * (logdet(x) + logdet(y) - logdet(x + y))


def r_squared(cov, i, others):
    if not others:
        return 0.0
    cross = cov[i, others]
    return cross @ np.linalg.solve(cov[np.ix_(others, others)], cross) / cov[i, i]


def greedy_hull(cov, i, peers, share=0.95, most=10):
    goal = share * r_squared(cov, i, peers)
    chosen, reached = [], 0.0
    while len(chosen) < min(most, len(peers)) and reached < goal:
        gains = {j: r_squared(cov, i, [*chosen, j]) for j in peers if j not in chosen}
        best = max(gains, key=gains.get)
        chosen.append(best)
        reached = gains[best]
    return chosen


def naive_axes(cov, c, peers=50, top=10, hull=True):
    """Name -> (C,) array; `cov` is the joint covariance of c channels, then the targets."""
    targets = list(range(c, cov.shape[0]))
    out = {}

    def put(name, i, value):
        out.setdefault(name, np.zeros(c))[i] = value

    median = np.median(np.diagonal(cov)[:c])
    single = [information(cov, [i], targets) for i in range(c)]
    for i in range(c):
        others = [j for j in range(c) if j != i]
        pair_overlap = [information(cov, [i], [j]) for j in others]
        predictability = r_squared(cov, i, others)
        put("signal_power", i, cov[i, i])
        put("input_capture", i, 0.5 * np.log(1 + cov[i, i] / median))
        put("peer_overlap", i, sum(pair_overlap) / (c - 1))
        put("peer_predictability", i, predictability)
        put("peer_information", i, information(cov, [i], others))
        near = [others[k] for k in np.argsort(pair_overlap)[::-1][:peers]]
        excess = [information(cov, [i, j], targets) - max(single[i], single[j]) for j in near]
        redundancy = np.mean([min(single[i], single[j]) for j in near])
        put("task_information", i, single[i])
        put("target_excess", i, np.mean(sorted(excess)[::-1][:top]))
        given_peers = information(cov, [i, *others], targets) - information(cov, others, targets)
        put("conditional_task_information", i, given_peers)
        put("task_redundancy", i, redundancy)
        put("task_unique", i, single[i] - redundancy)
        if hull:
            size = len(greedy_hull(cov, i, others))
            put("hull_size", i, size)
            put("hull_score", i, predictability / max(1, size))
    return out
