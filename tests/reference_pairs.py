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


def cosine(a, b):
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def cbml(z, r, P, N, link, margin=0.1, hardest=None, drop=True, variance="sum", v=1.0, h=0.1, ap=0.5, bp=0.5, an=1.0, bn=0.01):
    """Each anchor's loss, None where it keeps no kin or no others."""
    losses = []
    for i in range(len(z)):
        s = [cosine(z[i], row) for row in r]
        ours, theirs = [p for p in kin(P, i) if not (drop and s[p] >= 1 - 1e-5)], kin(N, i)
        kept, pushed = ours, theirs
        if margin is not None and ours and theirs:
            top, low = max(s[n] for n in theirs), min(s[p] for p in ours)
            kept, pushed = [p for p in ours if s[p] - margin < top], [n for n in theirs if s[n] + margin > low]
        if hardest is not None:
            pushed = sorted(pushed, key=lambda n: -s[n])[:hardest]
        if not kept or not pushed:
            losses.append(None)
            continue
        f = [sum(P[i, p] * math.exp(-(s[p] - ap) / bp) for p in kept), sum(N[i, n] * math.exp((s[n] - an) / bn) for n in pushed)]
        value = sum({"log": math.log(1 + x), "sqrt": math.sqrt(1 + x), "constant": 1 + 0.25 * x}[link] for x in f)
        means = [sum(W[i, j] * s[j] for j in side) / sum(W[i, j] for j in side) for W, side in ((P, ours), (N, theirs))]
        m = h * means[0] + (1 - h) * means[1]
        spread = sum(N[i, n] * (s[n] - m) ** 2 for n in theirs)
        losses.append(value + v * (spread / sum(N[i, n] for n in theirs) if variance == "mean" else spread))
    return losses


def contextual_similarity(z, at, k, eps, slope):
    """At z, by indicators that are exact at `at` and lines of one slope from there on, and by sums fixed at `at`.

    Where z is `at` this is the similarity, and its derivative is what a straight-through indicator gives.
    """
    B = range(len(z))
    near = [[-max(0.0, 2 - 2 * cosine(z[i], z[j])) for j in B] for i in B]
    fixed = [[-max(0.0, 2 - 2 * cosine(at[i], at[j])) for j in B] for i in B]

    def exact(count):
        ends = [sorted(fixed[i], reverse=True)[min(count, len(z)) - 1] for i in B]
        return [[1.0 if fixed[i][j] + eps >= ends[i] else 0.0 for j in B] for i in B]

    def moved(M):
        return [[M[i][j] + slope * (near[i][j] - fixed[i][j]) for j in B] for i in B]

    M0 = exact(k)
    M, M2 = moved(M0), moved(exact(max(1, k // 2)))
    W = np.zeros((len(z), len(z)))
    for i in B:
        for j in B:
            inside, outside = sum(M0[i]), len(z) - sum(M0[i])
            both = sum(M[i][a] * M[j][a] for a in B) / inside
            none = sum((1 - M[i][a]) * (1 - M[j][a]) for a in B) / outside if outside else 0.0
            W[i, j] = (both + none) / 2 * M[i][j]
    J = np.zeros_like(W)
    for i in B:
        R = [M2[i][a] * M2[a][i] for a in B]
        for j in B:
            J[i, j] = sum(R[a] * W[a, j] for a in B) / sum(R)
    return (J + J.T) / 2


def contextual(z, at, P, N, weights, k, eps=0.05, slope=10.0, mp=0.75, mn=0.6, rho=0.25):
    """The three weighted terms over rows that are all known."""
    B = range(len(z))
    c = contextual_similarity(z, at, k, eps, slope)
    context = sum(P[i, j] * (1 - c[i, j]) ** 2 + N[i, j] * c[i, j] ** 2 for i in B for j in B) / len(z) ** 2
    sides = []
    for side, cost in ((P, lambda s: max(0.0, mp - s)), (N, lambda s: max(0.0, s - mn))):
        found = [(side[i, j], cost(cosine(z[i], z[j]))) for i in B for j in kin(side, i)]
        mass = sum(w for w, v in found if v > 0)
        sides.append(sum(w * v for w, v in found) / mass if mass else 0.0)
    spread = (sum(cosine(z[i], z[j]) for i in B for j in B) / len(z) ** 2 - rho) ** 2
    return weights[0] * context + weights[1] * sum(sides) + weights[2] * spread


def triplet(z, r, P, N, mining, cost):
    """The mean cost of the gaps of mined triplets, which weigh 1."""
    costs = []
    for i in range(len(z)):
        ours, theirs = kin(P, i), kin(N, i)
        if not ours or not theirs:
            continue
        d = [far(z[i], row) for row in r]
        nearest, farthest = min(theirs, key=lambda n: d[n]), max(ours, key=lambda p: d[p])
        chosen = {"hard": [(farthest, nearest)], "hard_negative": [(p, nearest) for p in ours]}[mining]
        costs += [cost(d[p] - d[n]) for p, n in chosen]
    return sum(costs) / len(costs)
