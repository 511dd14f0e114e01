"""Distillation losses written from their formulas: numpy float64 and plain loops, sharing nothing with the implementation.

`s` and `t` are the outputs of student and teacher for the same samples, in the same order.
"""

from __future__ import annotations

import math

import numpy as np


def unit(x):
    length = math.sqrt(sum(v * v for v in x.ravel()))
    return x / length if length > 0 else x


def softmax(x):
    e = [math.exp(v - max(x)) for v in x]
    return [v / sum(e) for v in e]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def kd(s, t, T=4.0):
    return sum(T**2 * kl(softmax(b / T), softmax(a / T)) for a, b in zip(s, t, strict=True)) / len(s)


def pooled(x, height, width):
    """Each cell of (B, C, H, W) is the mean of the inputs that it overlaps, from floor(i H / h) to ceil((i + 1) H / h)."""
    out = np.zeros((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(i * x.shape[2] // height, -(-(i + 1) * x.shape[2] // height))
            columns = slice(j * x.shape[3] // width, -(-(j + 1) * x.shape[3] // width))
            out[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
    return out


def of_one_size(s, t):
    size = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
    return pooled(s, *size), pooled(t, *size)


def attention_transfer(s, t):
    s, t = of_one_size(s, t)
    total, count = 0.0, 0
    for a, b in zip(s, t, strict=True):
        q = [unit(np.array([[np.mean(x[:, i, j] ** 2) for j in range(x.shape[2])] for i in range(x.shape[1])])) for x in (a, b)]
        total += ((q[0] - q[1]) ** 2).sum()
        count += q[0].size
    return total / count


def similarity_preserving(s, t):
    n = len(s)
    total = 0.0
    for i in range(n):
        rows = [unit(np.array([float((x[i] * x[j]).sum()) for j in range(n)])) for x in (s, t)]
        total += ((rows[0] - rows[1]) ** 2).sum()
    return total / n**2


def pkt(s, t, eps=1e-7):
    n = len(s)
    total = 0.0
    for i in range(n):
        p, q = ([(float(unit(x[i]) @ unit(x[j])) + 1) / 2 for j in range(n)] for x in (t, s))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += sum(a * math.log((a + eps) / (b + eps)) for a, b in zip(p, q, strict=True))
    return total / n**2


def coss(s, t):
    rows = [float(unit(a) @ unit(b)) for a, b in zip(s, t, strict=True)]
    columns = [float(unit(a) @ unit(b)) for a, b in zip(s.T, t.T, strict=True)]
    return -np.mean(rows) - np.mean(columns)


def darkrank(s, t, alpha=3.0, beta=3.0, L=4, normalize=True):
    if normalize:
        s, t = (np.stack([unit(row) for row in x]) for x in (s, t))
    total = 0.0
    for i in range(len(s)):
        others = [j for j in range(len(s)) if j != i]
        order = sorted(others, key=lambda j: np.linalg.norm(t[i] - t[j]))[:L]
        scores = [-alpha * np.linalg.norm(s[i] - s[j]) ** beta for j in order]
        for k in range(L):
            total -= math.log(softmax(scores[k:])[0])
    return total / len(s)


def fitnet(s, t, W, b):
    if s.ndim == 4:
        s, t = of_one_size(s, t)
        mapped = np.einsum("oc,bchw->bohw", W, s) + b[:, None, None]
    else:
        mapped = np.stack([W @ row + b for row in s])
    return ((mapped - t) ** 2).mean()


def correlation_congruence(s, t):
    n = len(s)
    return sum(float(abs(s[i] - t[i]) @ abs(s[i + 1] - t[i + 1])) for i in range(n - 1)) / (n - 1)


def simreg(p, t):
    return sum(float(((unit(a) - unit(b)) ** 2).sum()) for a, b in zip(p, t, strict=True)) / len(p)


def seed(s, t, queue, Ts=0.2, Tt=0.01):
    total = 0.0
    for a, b in zip(s, t, strict=True):
        keys = [unit(b), *queue]
        target = softmax(np.array([unit(b) @ k for k in keys]) / Tt)
        given = softmax(np.array([unit(a) @ k for k in keys]) / Ts)
        total -= sum(p * math.log(q) for p, q in zip(target, given, strict=True))
    return total / len(s)


def compress(s, t, A_s, A_t, T=0.04):
    total = 0.0
    for a, b in zip(s, t, strict=True):
        total += kl(softmax(np.array([unit(b) @ k for k in A_t]) / T), softmax(np.array([unit(a) @ k for k in A_s]) / T))
    return total / len(s)


def nce(o, n, eps=1e-7):
    """o: for each row the list [own, negatives...]; a row without negatives costs 0."""
    total = 0.0
    for row in o:
        m = len(row) - 1
        if m:
            total -= math.log(row[0] / (row[0] + m / n + eps))
            total -= sum(math.log((m / n) / (x + m / n + eps)) for x in row[1:])
    return total / len(o)


def crd(v1, v2, keys1, keys2, n, Z=None, T=0.07):
    """Loss and (Z of o1, Z of o2). `keys1[b]` are the student's keys that row b is contrasted with, own first; `keys2[b]` the teacher's."""
    o1 = [[math.exp(float(k @ v) / T) for k in keys] for v, keys in zip(v1, keys2, strict=True)]
    o2 = [[math.exp(float(k @ v) / T) for k in keys] for v, keys in zip(v2, keys1, strict=True)]
    if Z is None:
        Z = tuple(n * sum(map(sum, o)) / sum(map(len, o)) for o in (o1, o2))
    return sum(nce([[x / z for x in row] for row in o], n) for o, z in zip((o1, o2), Z, strict=True)), Z
