"""Losses against rows of classes from their formulas: numpy float64 and plain loops, sharing nothing with the implementation.

`z` (n, D) and `y` are embeddings and classes, -1 = unknown; `w` (C * K, D) are rows, those of class c at c * K and after it. Each gives the
losses of the rows of known class, or what it says.
"""

from __future__ import annotations

import math

import numpy as np


def cosine(a, b):
    return float(sum(x * y for x, y in zip(a, b, strict=True))) / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def numeric_gradient(function, x, h=1e-6):
    """Central differences of a number by every entry."""
    found = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[place] += h
        down[place] -= h
        found[place] = (function(up) - function(down)) / (2 * h)
    return found


def softmax_losses(rows_of_logits, y):
    return [math.log(sum(math.exp(value) for value in row)) - row[c] for row, c in zip(rows_of_logits, y, strict=True) if c >= 0]


def normalized_softmax(z, y, w, scale):
    return softmax_losses([[scale * cosine(x, row) for row in w] for x in z], y)


def linear_softmax(z, y, w, b, smoothing=0.0, spread="others"):
    losses = []
    for x, c in zip(z, y, strict=True):
        if c < 0:
            continue
        logits = [float(x @ row) + float(offset) for row, offset in zip(w, b, strict=True)]
        logs = [value - math.log(sum(math.exp(v) for v in logits)) for value in logits]
        classes = len(w)
        if spread == "all":
            target = [(1 - smoothing) * (k == c) + smoothing / classes for k in range(classes)]
            losses.append(-sum(t * log for t, log in zip(target, logs, strict=True)))
        else:
            target = [1 - smoothing if k == c else smoothing / (classes - 1) for k in range(classes)]
            losses.append(sum(t * (math.log(t) - log) for t, log in zip(target, logs, strict=True) if t > 0))
    return losses


def sphere_face(z, y, w, m, scale=1.0, annealing=0.0):
    logits = []
    for x, c in zip(z, y, strict=True):
        length = math.sqrt(float(x @ x))
        row = [scale * length * cosine(x, one) for one in w]
        if c >= 0:
            angle = math.acos(cosine(x, w[c]))
            k = int(angle * m / math.pi)
            psi = (-1) ** k * math.cos(m * angle) - 2 * k
            row[c] = scale * length * (annealing * math.cos(angle) + psi) / (1 + annealing)
        logits.append(row)
    return softmax_losses(logits, y)


def cos_face(z, y, w, m, scale):
    return softmax_losses([[scale * (cosine(x, row) - m * (k == c)) for k, row in enumerate(w)] for x, c in zip(z, y, strict=True)], y)


def moved(angle, m, past):
    """cos(angle + m), and what stands for it past pi - m."""
    if past == "easy":
        return math.cos(angle + m) if angle < math.pi / 2 else math.cos(angle)
    if past == "linear" and angle + m > math.pi:
        return math.cos(angle) - m * math.sin(m)
    return math.cos(angle + m)


def arc_face(z, y, w, m, scale, past="linear", K=1):
    logits = []
    for x, c in zip(z, y, strict=True):
        row = []
        for k in range(len(w) // K):
            best = max(cosine(x, w[k * K + j]) for j in range(K))
            row.append(scale * (moved(math.acos(best), m, past) if k == c else best))
        logits.append(row)
    return softmax_losses(logits, y)


def dominant_angles(z, y, w, K):
    """Radians to the row of the own class that is the nearest of most of its samples; None where the class is unknown."""
    found = []
    for x, c in zip(z, y, strict=True):
        if c < 0:
            found.append(None)
            continue
        votes = [0] * K
        for other, d in zip(z, y, strict=True):
            if d == c:
                similar = [cosine(other, w[c * K + j]) for j in range(K)]
                votes[similar.index(max(similar))] += 1
        found.append(math.acos(cosine(x, w[c * K + votes.index(max(votes))])))
    return found


def proxy_nca(z, y, w, scale, form):
    losses = []
    for x, c in zip(z, y, strict=True):
        if c < 0:
            continue
        u = x / np.linalg.norm(x)
        distances = [float(np.sum((u - row / np.linalg.norm(row)) ** 2)) for row in w]
        among = [math.exp(-scale * d) for k, d in enumerate(distances) if form == "softmax" or k != c]
        if among:
            losses.append(-math.log(math.exp(-scale * distances[c]) / sum(among)))
        else:
            losses.append(0.0)
    return losses


def similarities(z, w, K=1, gamma=0.1):
    """Soft maxima over the K rows of every class, (n, C)."""
    found = np.zeros((len(z), len(w) // K))
    for i, x in enumerate(z):
        for c in range(len(w) // K):
            values = [cosine(x, w[c * K + j]) for j in range(K)]
            shares = [math.exp(value / gamma) for value in values]
            found[i, c] = sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares)
    return found


def proxy_anchor(z, y, w, m, alpha, anchor="class", K=1, gamma=0.1):
    """A number."""
    S = similarities(z, w, K, gamma)
    classes = range(S.shape[1])
    known = [i for i in range(len(z)) if y[i] >= 0]
    if anchor == "sample":
        total = 0.0
        for i in known:
            total += math.log(1 + math.exp(-alpha * (S[i, y[i]] - m)))
            total += math.log(1 + sum(math.exp(alpha * (S[i, c] + m)) for c in classes if c != y[i]))
        return total / max(1, len(known))
    present = [c for c in classes if any(y[i] == c for i in known)]
    pull = sum(math.log(1 + sum(math.exp(-alpha * (S[i, c] - m)) for i in known if y[i] == c)) for c in present)
    push = sum(math.log(1 + sum(math.exp(alpha * (S[i, c] + m)) for i in known if y[i] != c)) for c in classes)
    return pull / max(1, len(present)) + push / len(classes)


def soft_triple(z, y, w, K, scale, gamma, m):
    S = similarities(z, w, K, gamma)
    return softmax_losses([[scale * (S[i, c] - m * (c == y[i])) for c in range(S.shape[1])] for i in range(len(z))], y)


def center_spread(w, K):
    """A number."""
    classes, total = len(w) // K, 0.0
    for c in range(classes):
        for s in range(K):
            for t in range(s + 1, K):
                total += math.sqrt(2 - 2 * cosine(w[c * K + s], w[c * K + t]))
    return total / (classes * K * (K - 1))


def center(z, y, w):
    return [sum((a - b) ** 2 for a, b in zip(x, w[c], strict=True)) / 2 for x, c in zip(z, y, strict=True) if c >= 0]


def centers_after(z, y, w, alpha):
    """The paper's rule."""
    after = w.copy()
    for c in range(len(w)):
        mine = [x for x, d in zip(z, y, strict=True) if d == c]
        after[c] = w[c] - alpha * sum((w[c] - x for x in mine), np.zeros(w.shape[1])) / (1 + len(mine))
    return after


def pairwise_surrogate(z, y, logits, decay):
    """Tightness and contrast, by pairs."""
    n = len(z)
    tightness = -sum(float(z[i] @ z[j]) for i in range(n) for j in range(n) if y[i] == y[j]) / (2 * decay * n * n)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    contrast = 0.0
    for i in range(n):
        terms = [math.exp(sum(p[j, k] * float(z[i] @ z[j]) for j in range(n)) / (decay * n)) for k in range(logits.shape[1])]
        contrast += math.log(sum(terms)) / n
    for k in range(logits.shape[1]):
        center = sum(p[i, k] * z[i] for i in range(n)) / n
        contrast -= float(center @ center) / (2 * decay)
    return tightness, contrast
