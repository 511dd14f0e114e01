"""Transductive heads once more, slowly: one episode at a time, float64, from the formulas and not from the code under test.

Gradients are autograd's and steps `torch.optim.Adam`'s; everything else is numpy.
"""

from __future__ import annotations

import numpy as np
import torch


def random_episodes(seed, *, ways=3, dim=6, episodes=4, queries=11, spread=0.6, positive=False):
    """Support (unbalanced, shuffled), labels, query and base mean; classes overlap; queries are not balanced."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, ways)
    labels = np.stack([rng.permutation(np.repeat(np.arange(ways), counts)) for _ in range(episodes)])
    centres = rng.normal(size=(episodes, ways, dim)) + 0.4
    which = rng.integers(0, ways, (episodes, queries))

    def around(index):
        z = np.take_along_axis(centres, index[..., None], 1)
        z = z + spread * rng.normal(size=z.shape)
        return np.abs(z) if positive else z

    return around(labels), labels, around(which), 0.2 * rng.normal(size=dim)


def tensors(*arrays):
    return [torch.from_numpy(a) for a in arrays]


def unit(v):
    return v / np.sqrt((v * v).sum(-1, keepdims=True))


def moved(z, kind, base_mean):
    return {"none": z, "l2n": unit(z), "cl2n": unit(z - base_mean)}[kind]


def softmax(v):
    e = np.exp(v - v.max())
    return e / e.sum()


def means_of(support, labels, ways):
    return np.stack([support[labels == c].mean(0) for c in range(ways)])


def cosine(a, b):
    return float(unit(a) @ unit(b))


def score(a, b, distance):
    squared = float(((a - b) ** 2).sum())
    return {"cosine": cosine(a, b), "squared": -squared, "euclidean": -np.sqrt(squared)}[distance]


def scores(query, rows, distance):
    return np.array([[score(q, r, distance) for r in rows] for q in query])


def rectified_rows(support, labels, query, ways, variant, epsilon):
    p = means_of(support, labels, ways)
    query = query + support.mean(0) - query.mean(0)
    rows = list(support) + list(query)
    near = [[cosine(x, p[c]) for c in range(ways)] for x in rows]
    chosen = [int(np.argmax(line)) for line in near]
    if variant == "within":
        chosen[: len(labels)] = list(labels)
    out = []
    for c in range(ways):
        members = [i for i in range(len(rows)) if chosen[i] == c]
        if variant == "within":
            weight = np.array([np.exp(epsilon * near[i][c]) for i in members])
            out.append(sum(w * rows[i] for w, i in zip(weight / weight.sum(), members, strict=True)))
        elif members:
            out.append(np.mean([softmax(epsilon * np.array(near[i]))[c] * rows[i] for i in members], axis=0))
        else:
            out.append(p[c])
    return np.stack(out)


def bd_cspn(support, labels, query, ways, *, variant, epsilon, shift_query, distance):
    rows = rectified_rows(support, labels, query, ways, variant, epsilon)
    if shift_query:
        query = query + support.mean(0) - query.mean(0)
    return scores(query, rows, distance)


def laplacian_shot(support, labels, query, ways, *, lam, neighbors, steps, tolerance, rectify, epsilon):
    plain = rectify == "none"
    rows = means_of(support, labels, ways) if plain else rectified_rows(support, labels, query, ways, rectify, epsilon)
    a = -scores(query, rows, "squared")
    n = len(query)
    near = []
    for i in range(n):
        others = sorted((float(((query[i] - query[j]) ** 2).sum()), j) for j in range(n) if j != i)
        near.append([j for _, j in others[:neighbors]])
    y = np.stack([softmax(-a[i]) for i in range(n)])
    before = np.inf
    for step in range(steps):
        y = np.stack([softmax(-a[i] + lam * sum(y[j] for j in near[i])) for i in range(n)])
        bound = sum((y[i] * (np.log(y[i] + 1e-12) + a[i] - lam * sum(y[j] for j in near[i]))).sum() for i in range(n))
        if step > 1 and abs(bound - before) <= tolerance * abs(before):
            break
        before = bound
    return y


def powered(z, power, centre):
    z = (np.maximum(z, 0) + 1e-6) ** power
    if centre == "sets":
        z = unit(z)
        z = unit(z - z.mean(0))
    return z


def sinkhorn(kernel, column):
    """Rows of sum 1 and columns of sum `column`, by alternating normalisation until nothing moves."""
    p = kernel / kernel.sum()
    for _ in range(100_000):
        p = p / p.sum(1, keepdims=True)
        before = p
        p = p * (column / p.sum(0, keepdims=True))
        if np.abs(p - before).max() < 1e-14:
            break
    return p


def pt_map(support, labels, query, ways, *, balanced_prior, power, centre, lam, steps, rate):
    support, query = powered(support, power, centre), powered(query, power, centre)
    # the paper's reduction: the coordinates in an orthonormal basis of what the episode spans
    reduced = np.linalg.qr(np.concatenate([support, query]).T)[1].T
    support, query = reduced[: len(support)], reduced[len(support) :]
    p = means_of(support, labels, ways)

    def plan():
        kernel = np.exp(lam * scores(query, p, "squared"))
        return sinkhorn(kernel, len(query) / ways) if balanced_prior else kernel / kernel.sum(1, keepdims=True)

    for _ in range(steps):
        weight = plan()
        estimate = [(support[labels == c].sum(0) + weight[:, c] @ query) / ((labels == c).sum() + weight[:, c].sum()) for c in range(ways)]
        p = p + rate * (np.stack(estimate) - p)
    return plan()


def soft_kmeans(support, labels, query, ways, *, steps, temperature, distance, shift):
    if shift:
        query = query + support.mean(0) - query.mean(0)
    p = means_of(support, labels, ways)
    for _ in range(steps):
        weight = np.stack([softmax(temperature * line) for line in scores(query, p, distance)])
        p = np.stack(
            [
                (support[labels == c].sum(0) + sum(w * q for w, q in zip(weight[:, c], query, strict=True)))
                / ((labels == c).sum() + weight[:, c].sum())
                for c in range(ways)
            ]
        )
    return temperature * scores(query, p, distance)


def shannon(p):
    return -(p * torch.log(p + 1e-12)).sum(-1)


def tsallis(alpha):
    return lambda p: (1 - ((p + 1e-12) ** alpha).sum(-1)) / (alpha - 1)


def logits_of(z, w, variant, temperature):
    if variant == "cosine":
        return temperature * torch.nn.functional.normalize(z, dim=-1) @ torch.nn.functional.normalize(w, dim=-1).T
    if variant == "euclidean":
        return -temperature * torch.cdist(z, w)
    return -temperature / 2 * (z[:, None] - w[None]).square().sum(-1)


def descend(support, labels, query, ways, *, weights, entropy, variant, temperature, steps, lr, affine=False):
    """Adam on CE - marginal entropy + conditional entropy, `weights` in this order, from the class means."""
    s, y, q = tensors(support, labels, query)
    w = torch.from_numpy(means_of(support, labels, ways)).requires_grad_()
    a, b = torch.ones(s.shape[1], dtype=torch.float64), torch.zeros(s.shape[1], dtype=torch.float64)
    if affine:
        a.requires_grad_()
        b.requires_grad_()
    adam = torch.optim.Adam([w, a, b] if affine else [w], lr=lr)
    for _ in range(steps):
        p = logits_of(a * q + b, w, variant, temperature).softmax(-1)
        ce = torch.nn.functional.cross_entropy(logits_of(a * s + b, w, variant, temperature), y)
        loss = weights[0] * ce - weights[1] * entropy(p.mean(0)) + weights[2] * entropy(p).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return logits_of(a * q + b, w, variant, temperature).detach().numpy()
