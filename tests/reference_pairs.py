"""Pair-based objectives of metric learning written from their formulas: numpy float64 and plain loops, sharing nothing with the code.

`P` and `N` are matrices of positive and negative weights (A, R); z and r are rows of anchors and references. Each gives the losses of its
units: anchors, or what it says. `gradient` differentiates any of them by central differences.
"""

from __future__ import annotations

import math

import numpy as np


def gradient(loss, z, step=1e-6):
    """Central differences of a scalar function at z (A, D)."""
    found = np.zeros_like(z)
    for place in np.ndindex(*z.shape):
        up, down = z.copy(), z.copy()
        up[place] += step
        down[place] -= step
        found[place] = (loss(up) - loss(down)) / (2 * step)
    return found


def mean(losses):
    """Of those that count, which are not None."""
    there = [v for v in losses if v is not None]
    return sum(there) / len(there) if there else 0.0


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def far(a, b):
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def kin(weights, i):
    return [j for j in range(weights.shape[1]) if weights[i, j] > 0]


def n_pair(z, r, P, N, c):
    """Each anchor's loss, None without kin."""
    losses = []
    for i in range(len(z)):
        pairs = []
        for p in kin(P, i):
            against = sum(N[i, n] * math.exp(dot(z[i], r[n]) - dot(z[i], r[p])) for n in kin(N, i))
            pairs.append((P[i, p], math.log(1 + against) + c * (dot(z[i], z[i]) + dot(r[p], r[p])) / 2))
        losses.append(sum(w * v for w, v in pairs) / sum(w for w, _ in pairs) if pairs else None)
    return losses


def lifted(z, r, P, N, m):
    """Weighted mean over pairs of kin."""
    total = mass = 0.0
    for i in range(len(z)):
        for j in kin(P, i):
            near = sum(N[i, k] * math.exp(m - far(z[i], r[k])) for k in range(len(r)) if N[i, k] > 0)
            near += sum(N[k, j] * math.exp(m - far(z[k], r[j])) for k in range(len(z)) if N[k, j] > 0)
            if near > 0:
                total += P[i, j] * max(0.0, math.log(near) + far(z[i], r[j])) ** 2 / 2
            mass += P[i, j]
    return total / mass if mass else 0.0


def generalized_lifted(z, r, P, N, m):
    losses = []
    for i in range(len(z)):
        pull = sum(P[i, p] * math.exp(far(z[i], r[p])) for p in kin(P, i))
        push = sum(N[i, n] * math.exp(m - far(z[i], r[n])) for n in kin(N, i))
        losses.append(max(0.0, math.log(pull) + math.log(push)) if pull and push else None)
    return losses


def nca(z, r, P, N, t, form):
    losses = []
    for i in range(len(z)):
        e = [math.exp(-(far(z[i], row) ** 2) / t) for row in r]
        right = sum(P[i, j] * e[j] for j in kin(P, i))
        p = right / (right + sum(N[i, j] * e[j] for j in kin(N, i))) if right else None
        losses.append(None if p is None else -math.log(p) if form == "log" else 1 - p)
    return losses


def wrt(z, r, P, N, include_self=False, fixed=None):
    """`fixed`: rows (A, D) and references at which the softmax weights are taken, as constants."""
    at, at_r = (z, r) if fixed is None else fixed
    losses = []
    for i in range(len(z)):
        if not kin(P, i) or not kin(N, i):
            losses.append(None)
            continue
        sides = []
        for weights, sign in ((P, 1), (N, -1)):
            e = [weights[i, j] * math.exp(sign * far(at[i], at_r[j])) for j in kin(weights, i)]
            itself = 1.0 if include_self and sign == 1 else 0.0
            sides.append(sum(v * far(z[i], r[j]) for v, j in zip(e, kin(weights, i), strict=True)) / (sum(e) + itself))
        losses.append(math.log(1 + math.exp(sides[0] - sides[1])))
    return losses


def gaussian_mixture(z, y, width, error):
    classes = sorted({int(c) for c in y if c >= 0})
    mu = {c: np.mean([z[i] for i in range(len(z)) if y[i] == c], axis=0) for c in classes}
    losses = []
    for i in range(len(z)):
        if y[i] < 0:
            losses.append(None)
            continue
        e = {c: math.exp(-(far(z[i], mu[c]) ** 2) / (2 * width**2)) for c in classes}
        p = {c: e[c] / sum(e.values()) for c in classes}
        squared = sum((p[c] - (1.0 if c == y[i] else 0.0)) ** 2 for c in classes)
        losses.append(squared if error == "squared" else -math.log(p[int(y[i])]))
    return losses


def contrastive(z, r, P, N, mp, mn, measure, squared, apart, active):
    """The mean over pairs, or over those that cost something; of both sides together or each alone."""
    sums = {side: [0.0, 0.0] for side in "pn"}
    for i in range(len(z)):
        for j in range(len(r)):
            value = {"distance": far(z[i], r[j]), "squared_distance": far(z[i], r[j]) ** 2, "similarity": -dot(z[i], r[j])}[measure]
            for side, weight, excess in (
                ("p", P[i, j], value + mp if measure == "similarity" else value - mp),
                ("n", N[i, j], -mn - value if measure == "similarity" else mn - value),
            ):
                cost = max(0.0, excess) ** (2 if squared else 1)
                sums[side][0] += weight * cost
                sums[side][1] += weight if cost > 0 or not active else 0.0
    if apart:
        return sum(total / mass if mass else 0.0 for total, mass in sums.values())
    return (sums["p"][0] + sums["n"][0]) / (sums["p"][1] + sums["n"][1])
