"""Objectives written from their formulas: numpy float64 and plain loops, sharing nothing with the implementation.

`P` and `N` are matrices of positive and negative weights (A, R); z and r are rows of anchors and references.
"""

from __future__ import annotations

import math

import numpy as np


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def info_nce(z, r, P, N, T, form="out", denominator="all"):
    """Each anchor's loss; 0 where it does not count."""
    out = []
    for i in range(len(z)):
        e = [math.exp(cosine(z[i], r[j]) / T) for j in range(len(r))]
        kin = [j for j in range(len(r)) if P[i, j] > 0]
        below = sum(N[i, j] * e[j] for j in range(len(r)))
        if not kin or (denominator == "negatives" and below == 0):
            out.append(0.0)
            continue
        share = {j: e[j] / {"all": below + sum(e[k] for k in kin), "own": below + e[j], "negatives": below}[denominator] for j in kin}
        mass = sum(P[i, j] for j in kin)
        if form == "out":
            out.append(-sum(P[i, j] * math.log(share[j]) for j in kin) / mass)
        else:
            out.append(-math.log(sum(P[i, j] * share[j] for j in kin) / mass))
    return out


def sup_con(z, y, T, anchors=None):
    """z (n, D), labels of each row; the mean over anchors, those without positives as 0."""
    anchors = range(len(z)) if anchors is None else anchors
    total = 0.0
    for i in anchors:
        kin = [p for p in range(len(z)) if p != i and y[p] == y[i]]
        below = sum(math.exp(cosine(z[i], z[a]) / T) for a in range(len(z)) if a != i)
        if kin:
            total -= sum(math.log(math.exp(cosine(z[i], z[p]) / T) / below) for p in kin) / len(kin)
    return total / len(anchors)


def multi_similarity(z, r, P, N, wp, wn, t, m):
    """Mean over anchors that keep positives and negatives; m None = no mining."""
    losses = []
    for i in range(len(z)):
        C = [cosine(z[i], row) for row in r]
        kin, others = [j for j in range(len(r)) if P[i, j] > 0], [j for j in range(len(r)) if N[i, j] > 0]
        if not kin or not others:
            continue
        if m is not None:
            top, low = max(C[j] for j in others), min(C[j] for j in kin)
            kin, others = [j for j in kin if C[j] - m < top], [j for j in others if C[j] + m > low]
        if kin and others:
            pull = math.log(1 + sum(P[i, j] * math.exp(-wp * (C[j] - t)) for j in kin)) / wp
            push = math.log(1 + sum(N[i, j] * math.exp(wn * (C[j] - t)) for j in others)) / wn
            losses.append(pull + push)
    return sum(losses) / len(losses) if losses else 0.0


def margin_contrastive(z, r, P, N, mp, mn, eps=1e-6):
    total = mass = 0.0
    for i in range(len(z)):
        for j in range(len(r)):
            d = math.sqrt(sum((a - b + eps) ** 2 for a, b in zip(z[i], r[j], strict=True)))
            total += P[i, j] * max(0.0, d - mp) + N[i, j] * max(0.0, mn - d)
            mass += P[i, j] + N[i, j]
    return total / mass if mass else 0.0


def triplet(z, P, N, margin, mining, squared=False):
    """Mean over triplets of unit rows, the anchors being the references."""
    z, total, mass = unit(z), 0.0, 0.0
    for i in range(len(z)):
        d = [float(np.linalg.norm(z[i] - row)) ** (2 if squared else 1) for row in z]
        kin, others = [j for j in range(len(z)) if P[i, j] > 0], [j for j in range(len(z)) if N[i, j] > 0]
        if not kin or not others:
            continue
        if mining == "all":
            chosen = [(p, n, P[i, p] * N[i, n]) for p in kin for n in others]
        elif mining == "hard":
            chosen = [(max(kin, key=lambda j: d[j]), min(others, key=lambda j: d[j]), 1.0)]
        else:
            chosen = []
            for p in kin:
                farther = [n for n in others if d[n] > d[p]]
                chosen.append((p, min(farther, key=lambda j: d[j]) if farther else max(others, key=lambda j: d[j]), 1.0))
        for p, n, w in chosen:
            gap = d[p] - d[n]
            total += w * (math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
            mass += w
    return total / mass if mass else 0.0


def block_repulsion(z, y, K, scale):
    present = sorted({int(c) for c in y if c >= 0})
    mu = [np.mean([z[i] for i in range(len(z)) if y[i] == c], axis=0) for c in present]
    logs = []
    for a in range(len(present)):
        logs.append(math.log(sum(math.exp(scale * (0.0 if a == b else cosine(mu[a], mu[b]))) for b in range(len(present))) + 1e-10))
    return sum(logs) / len(logs) / K


def softmax(x):
    e = [math.exp(v - max(x)) for v in x]
    return [v / sum(e) for v in e]


def contra_x(z, y, T):
    total = 0.0
    for i in range(len(z)):
        p = softmax([float(y[i] == y[j]) / T for j in range(len(z))])
        q = softmax([cosine(z[i], z[j]) / T for j in range(len(z))])
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(z)


def densities(z, c, own, T, alpha, low, high):
    found = []
    for k in range(len(c)):
        members = [i for i in range(len(z)) if own[i] == k]
        found.append(
            sum(np.linalg.norm(unit(z[i]) - unit(c[k])) for i in members) / (len(members) * math.log(len(members) + alpha))
            if len(members) > 1
            else None
        )
    most = max(v for v in found if v is not None)
    values = np.array([most if v is None else v for v in found])
    values = np.clip(values, np.quantile(values, low), np.quantile(values, high))
    return T * values / values.mean()


def proto_nce(z, centers, assignments, phis):
    total = 0.0
    for c, own, phi in zip(centers, assignments, phis, strict=True):
        for i in range(len(z)):
            e = [math.exp(cosine(z[i], c[k]) / phi[k]) for k in range(len(c))]
            total -= math.log(e[own[i]] / sum(e))
    return total / len(z) / len(centers)


def cross_entropy_spread_to_all(logits, y, e):
    K = logits.shape[1]
    costs = [[-math.log(p) for p in softmax(list(row))] for row in logits]
    return sum((1 - e) * cost[own] + e / K * sum(cost) for cost, own in zip(costs, y, strict=True)) / len(y)


def cross_entropy(logits, y, e):
    K, total = logits.shape[1], 0.0
    for i in range(len(y)):
        p = softmax(list(logits[i]))
        q = [1 - e if k == y[i] else e / (K - 1) for k in range(K)]
        total += sum(b * math.log(b / a) for a, b in zip(p, q, strict=True) if b > 0)
    return total / len(y)
