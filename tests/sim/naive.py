"""Naive twins of the compiled kernels, written from the equations; imports nothing from `sim`."""

import math

import numpy as np

MASK = 0xFFFFFFFF


def philox(counter, key):
    """Philox4x32-10 on Python's unbounded integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def words(key, sample, block):
    return philox([block, 0, sample & MASK, sample >> 32], [key & MASK, key >> 32])


def normals(key, sample, count):
    drawn = []
    for block in range((count + 3) // 4):
        w = words(key, sample, block)
        for a, b in ((w[0], w[1]), (w[2], w[3])):
            radius = math.sqrt(-2 * math.log((a + 0.5) / 2**32))
            angle = 2 * math.pi * b / 2**32
            drawn += [radius * math.cos(angle), radius * math.sin(angle)]
    return np.array(drawn[:count])


def index(key, sample, count):
    return int(words(key, sample, 0x7FFFFFFF)[0] / 2**32 * count)


def batch(task, key, step, size, samples):
    """(size, d) inputs and (size, K) targets of one step."""
    spectrum, means, teacher, noise = task
    K, d = teacher.shape
    inputs, targets = [], []
    for b in range(size):
        number = step * size + b
        if samples:
            number = index(key, number, samples) | 1 << 63
        z = normals(key, number, d + K)
        x = np.sqrt(spectrum) * z[:d]
        if len(means):
            label = index(key, number, len(means))
            x = x + means[label]
            t = np.eye(K)[label] - 1 / K
        else:
            t = teacher @ x + noise * z[d:]
        inputs.append(x)
        targets.append(t)
    return np.array(inputs), np.array(targets)


def errors(outputs, targets, cross_entropy):
    """Slope of a sample's loss in its outputs: f - t, or softmax(f) - onehot."""
    if not cross_entropy:
        return outputs - targets
    powers = np.exp(outputs)
    onehot = targets + 1 / targets.shape[1]  # targets are centered
    return powers / powers.sum(1, keepdims=True) - onehot


def linear_gradients(layers, task, drawn=None, cross_entropy=False):
    """Gradients of the loss for f = layers[-1] ... layers[0] x, by the chain rule."""
    spectrum, means, teacher, _ = task
    before = [np.eye(layers[0].shape[1])]
    for layer in layers:
        before.append(layer @ before[-1])
    if drawn is None:
        sigma = np.diag(spectrum) + sum(np.outer(m, m) for m in means) / max(len(means), 1)
        signal = (before[-1] - teacher) @ sigma
    else:
        x, t = drawn
        signal = errors(x @ before[-1].T, t, cross_entropy).T @ x / len(x)
    gradients = []
    after = np.eye(layers[-1].shape[0])
    for layer, below in zip(reversed(layers), reversed(before[:-1]), strict=True):
        gradients.insert(0, after.T @ signal @ below.T)
        after = after @ layer
    return gradients


def relu_loss(filters, readout, spectrum, teacher):
    """½ E‖A relu(Wx) - Bx‖² for x ~ N(0, diag(spectrum)), channel pair by channel pair."""
    C = len(filters)
    loss = 0.5 * np.sum(teacher**2 * spectrum)
    loss -= 0.5 * np.sum((readout @ filters) * teacher * spectrum)
    for i in range(C):
        for j in range(C):
            power = [np.sum(filters[c] ** 2 * spectrum) for c in (i, j)]
            scale = np.sqrt(power[0] * power[1])
            cosine = np.clip(np.sum(filters[i] * filters[j] * spectrum) / scale, -1, 1)
            angle = np.arccos(cosine)
            moment = scale * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
            loss += 0.5 * (readout[:, i] @ readout[:, j]) * moment
    return loss


def numerical_gradient(function, point, distance=1e-6):
    gradient = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        shift = np.zeros_like(point)
        shift[place] = distance
        gradient[place] = (function(point + shift) - function(point - shift)) / (2 * distance)
    return gradient


def relu_batch_gradients(layers, drawn, cross_entropy=False):
    """Gradients of the loss for f = layers[-1] relu(... relu(layers[0] x)), by the chain rule."""
    x, t = drawn
    hidden = [x]
    for layer in layers[:-1]:
        hidden.append(np.maximum(hidden[-1] @ layer.T, 0))
    back = errors(hidden[-1] @ layers[-1].T, t, cross_entropy)
    gradients = []
    for layer, below in zip(reversed(layers), reversed(hidden), strict=True):
        gradients.insert(0, back.T @ below / len(x))
        back = (back @ layer) * (below > 0)
    return gradients
