"""InterCLR written from its formulas: numpy float64 and plain loops, sharing nothing with the implementation."""

from __future__ import annotations

import math

import numpy as np


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def update_features(V, indices, keys, a):
    """The last of a repeated index wins, blended with the row from before the batch."""
    out = V.copy()
    for i, k in zip(indices, keys, strict=True):
        out[i] = unit((1 - a) * V[i] + a * unit(k))
    return out


def update_labels(V, y, C, indices):
    out, changed = y.copy(), 0
    for i in indices:
        scores = [float(sum(c * v)) for c in C for v in [V[i]]]
        out[i] = int(np.argmax(scores))
        changed += out[i] != y[i]
    return out, changed / len(indices)


def update_centroids(V, y, C):
    out = C.copy()
    for c in range(len(C)):
        rows = [V[j] for j in range(len(V)) if y[j] == c]
        if rows:
            out[c] = sum(rows) / len(rows)
    return out


def lloyd(X, first, iterations):
    """k-means from given first centroids; the data must be such that no cluster runs empty."""
    C = np.array(first)

    def nearest(C):
        return np.array([int(np.argmin([((x - c) ** 2).sum() for c in C])) for x in X])

    y = nearest(C)
    for _ in range(iterations):
        C = np.array([X[y == c].mean(0) for c in range(len(C))])
        new = nearest(C)
        if (new == y).all():
            break
        y = new
    return y, np.array([X[y == c].mean(0) for c in range(len(C))])


def repair(V, y, C, minimum, first_two, iterations=20):
    """`first_two(n)`: the two rows of n that start a 2-means split."""
    y, C = y.copy(), C.copy()
    K = len(C)
    size = [int((y == c).sum()) for c in range(K)]
    small = [c for c in range(K) if size[c] < minimum]
    for s in small:
        for i in range(len(y)):
            if y[i] == s:
                best, best_score = -1, -np.inf
                for c in range(K):
                    score = float(C[c] @ V[i])
                    if c not in small and score > best_score:
                        best, best_score = c, score
                y[i] = best
    for s in small:
        sizes = [int((y == c).sum()) for c in range(K)]
        b = int(np.argmax(sizes))
        members = np.flatnonzero(y == b)
        halves, means = lloyd(V[members], V[members][first_two(len(members))], iterations)
        y[members[halves == 1]] = s
        C[b], C[s] = means
    return y, C


def pool(u, V, sampler, size):
    """Sets for semi-hard and semi-easy, a list in descending order for hard."""
    s = [float(u @ v) for v in V]
    order = sorted(range(len(V)), key=lambda j: -s[j])
    if sampler == "hard":
        return order[:size]
    return set(order[:size]) if sampler == "semi_hard" else set(order[-size:])


def hard_negatives(u, V, y, own, M):
    largest = max(int((y == c).sum()) for c in set(y.tolist()))
    return [j for j in pool(u, V, "hard", M + largest) if y[j] != own][:M]


def margin(p, kind, m):
    if kind == "none":
        return p
    if kind == "cosine":
        return p - m
    if m >= 0 and p <= math.cos(math.pi - m):
        return p - m * math.sin(math.pi - m)
    if m < 0 and p >= math.cos(m):
        return p + m * math.sin(m)
    return math.cos(math.acos(max(-1.0, min(1.0, p))) + m)


def cross_entropy(p, n, T):
    logits = [p / T, *[x / T for x in n]]
    top = max(logits)
    return math.log(sum(math.exp(x - top) for x in logits)) + top - p / T


def info_nce(q, k, negatives, T):
    """`negatives`: (L, D) shared or (B, M, D)."""
    losses = []
    for b in range(len(q)):
        rows = negatives if negatives.ndim == 2 else negatives[b]
        losses.append(cross_entropy(float(unit(q[b]) @ unit(k[b])), [float(unit(q[b]) @ unit(n)) for n in rows], T))
    return sum(losses) / len(losses)


def inter_loss(q, V, positives, negatives, T, kind, m, weights=None):
    total = 0.0
    for b in range(len(q)):
        u = unit(q[b])
        p = margin(float(u @ V[positives[b]]), kind, m)
        w = 1.0 if weights is None else weights[b]
        total += w * cross_entropy(p, [float(u @ V[j]) for j in negatives[b]], T)
    return total / len(q)


def nt_xent(z1, z2, T):
    z = unit(np.concatenate([z1, z2]))
    B, total = len(z1), 0.0
    for i in range(2 * B):
        partner = (i + B) % (2 * B)
        total += cross_entropy(float(z[i] @ z[partner]), [float(z[i] @ z[j]) for j in range(2 * B) if j not in (i, partner)], T)
    return total / (2 * B)
