"""Objectives of several modalities and of time, written from their formulas: plain loops over floats, sharing nothing with the package."""

from __future__ import annotations

import math

import numpy as np


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def vicreg(a, b, spread=1.0, eps=1e-4):
    """The three terms of two arrays (n, D) of rows that are all there."""
    n, dims = a.shape
    invariance = mean((a[i, d] - b[i, d]) ** 2 for i in range(n) for d in range(dims))
    variance = covariance = 0.0
    for z in (a, b):
        centre = [mean(z[:, d]) for d in range(dims)]
        for d in range(dims):
            var = sum((z[i, d] - centre[d]) ** 2 for i in range(n)) / (n - 1)
            variance += max(0.0, spread - math.sqrt(var + eps)) / dims
            for e in range(dims):
                if e != d:
                    cov = sum((z[i, d] - centre[d]) * (z[i, e] - centre[e]) for i in range(n)) / (n - 1)
                    covariance += cov**2 / dims
    return {"invariance": invariance, "variance": variance, "covariance": covariance}


def barlow_twins(a, b, eps=1e-5):
    n, dims = a.shape

    def standard(z):
        out = np.zeros_like(z)
        for d in range(dims):
            centre = mean(z[:, d])
            var = mean((v - centre) ** 2 for v in z[:, d])
            out[:, d] = [(v - centre) / math.sqrt(var + eps) for v in z[:, d]]
        return out

    a, b = standard(a), standard(b)
    invariance = redundancy = 0.0
    for i in range(dims):
        for j in range(dims):
            r = mean(a[k, i] * b[k, j] for k in range(n))
            if i == j:
                invariance += (1 - r) ** 2
            else:
                redundancy += r**2
    return {"invariance": invariance, "redundancy": redundancy}


def cocoa(z, r, P, N, T, form, alpha=1.0, lam=1.0):
    """Each anchor's loss over weights P and N (A, R); 0 without kin."""
    out = []
    for i in range(len(z)):
        s = [cosine(z[i], row) for row in r]
        kin, others = ([j for j in range(len(r)) if W[i, j] > 0] for W in (P, N))
        if not kin:
            out.append(0.0)
            continue
        n = sum(N[i, j] * math.exp(s[j] / T) for j in others) / sum(N[i, j] for j in others) if others else 0.0
        if form == "ratio":
            p = sum(P[i, j] * math.exp(s[j] / T) for j in kin)
            out.append(-math.log(p / (p + n)))
        else:
            p = sum(P[i, j] * math.exp((1 - s[j]) / T) for j in kin) / sum(P[i, j] for j in kin)
            out.append(alpha * p + lam * n)
    return out


def cocoa_of_the_paper(z, T, alpha, lam):
    """The paper's sum over z (M, B, D), an instant's windows being no kin of themselves."""
    M, B, _ = z.shape
    P = sum(mean(math.exp((1 - cosine(z[v, b], z[w, b])) / T) for v in range(M) for w in range(M) if v != w) for b in range(B))
    N = sum(mean(math.exp(cosine(z[v, b], z[v, c]) / T) for c in range(B) if c != b) for v in range(M) for b in range(B))
    return alpha * P + lam * N


def overlap(recording, start, length, i, j):
    """Whether two windows share time: half-open intervals of one recording."""
    return recording[i] == recording[j] and start[i] < start[j] + length[j] and start[j] < start[i] + length[i]


def cmc(z, present, apart, T, core=None):
    """z: M arrays (B, D), present bool (M, B), apart bool (B, B). The mean over pairs that two samples or more show."""
    losses = []
    for a in range(len(z)):
        for b in range(a + 1, len(z)):
            both = [i for i in range(len(z[0])) if present[a][i] and present[b][i]]
            if len(both) < 2 or core not in (None, a, b):
                continue
            costs = []
            for one, two in ((z[a], z[b]), (z[b], z[a])):
                for i in both:
                    own = math.exp(cosine(one[i], two[i]) / T)
                    below = own + sum(math.exp(cosine(one[i], two[j]) / T) for j in both if apart[i][j])
                    costs.append(-math.log(own / below))
            losses.append(mean(costs))
    return mean(losses) if losses else 0.0


def cpc(predicted, future, valid, apart, T):
    """(B, K, D) twice, valid bool (B, K), apart bool (B, B)."""
    steps = []
    for k in range(predicted.shape[1]):
        there = [b for b in range(len(predicted)) if valid[b][k]]
        costs = []
        for b in there:
            others = [c for c in there if apart[b][c]]
            if others:
                e = {c: math.exp(float(predicted[b, k] @ future[c, k]) / T) for c in [b, *others]}
                costs.append(-math.log(e[b] / sum(e.values())))
        if costs:
            steps.append(mean(costs))
    return mean(steps) if steps else 0.0


def tnc(scores, P, N, w):
    near, far = [], []
    for i in range(len(scores)):
        D = [1 / (1 + math.exp(-s)) for s in scores[i]]
        columns = range(len(D))
        if sum(P[i]) > 0:
            near.append(sum(-P[i][j] * math.log(D[j]) for j in columns) / sum(P[i]))
        if sum(N[i]) > 0:
            costs = [-(1 - w) * math.log(1 - D[j]) - w * math.log(D[j]) for j in columns]
            far.append(sum(N[i][j] * costs[j] for j in columns) / sum(N[i]))
    return {"near": mean(near) if near else 0.0, "far": mean(far) if far else 0.0}


def found_again(rows, kin, others):
    """-log softmax of row 0's product with its kin among it and others; None where there are no others."""
    if not others:
        return None
    e = [math.exp(float(rows @ x)) for x in (kin, *others)]
    return -math.log(e[0] / sum(e))


def hierarchical(a, b, valid, apart, finest=0):
    """(B, T, D) twice, valid bool (B, T), apart bool (B, B)."""
    sums, scales = {"instance": 0.0, "temporal": 0.0}, 0
    while True:
        B, T = valid.shape
        instance, temporal = [], []
        for one, two in ((a, b), (b, a)):
            for i in range(B):
                for t in range(T):
                    if not valid[i, t]:
                        continue
                    series = [j for j in range(B) if apart[i][j] and valid[j, t]]
                    steps = [s for s in range(T) if s != t and valid[i, s]]
                    instance.append(found_again(one[i, t], two[i, t], [x[j, t] for j in series for x in (one, two)]))
                    temporal.append(found_again(one[i, t], two[i, t], [x[i, s] for s in steps for x in (one, two)]))
        for name, costs in (("instance", instance), ("temporal", temporal)):
            counted = [cost for cost in costs if cost is not None]
            if counted and not (name == "temporal" and scales < finest):
                sums[name] += mean(counted)
        scales += 1
        if T == 1:
            return {name: total / scales for name, total in sums.items()}
        pooled = [np.zeros((B, T // 2, a.shape[2])) for _ in range(2)]
        coarser = np.zeros((B, T // 2), dtype=bool)
        for i in range(B):
            for t in range(T // 2):
                there = [s for s in (2 * t, 2 * t + 1) if valid[i, s]]
                coarser[i, t] = bool(there)
                for out, z in zip(pooled, (a, b), strict=True):
                    if there:
                        out[i, t] = np.max([z[i, s] for s in there], axis=0)
        (a, b), valid = pooled, coarser


def nt_xent_at_each_place(one, two, there, apart, T):
    """(S, L, D) twice and bool (S, L): the mean over places and rows of both sides."""
    S, L, _ = one.shape
    costs = []
    for place in range(L):
        for x, y in ((one, two), (two, one)):
            for s in range(S):
                others = [o for o in range(S) if apart[s][o] and there[o, place]]
                if there[s, place] and others:
                    own = math.exp(cosine(x[s, place], y[s, place]) / T)
                    rest = sum(math.exp(cosine(x[s, place], side[o, place]) / T) for o in others for side in (x, y))
                    costs.append(-math.log(own / (own + rest)))
    return mean(costs) if costs else 0.0


def focal(z, present, apart, T, margin):
    V, M, S, L, D = z.shape
    s, p = z[..., : D // 2], z[..., D // 2 :]
    pairs = [(m, n) for m in range(M) for n in range(m + 1, M)]
    terms = dict.fromkeys(("shared", "private", "orthogonality", "temporal"), 0.0)

    def aligned(one, two, there):
        costs = [max(0.0, cosine(one[i, j], two[i, j])) for i in range(S) for j in range(L) if there[i, j]]
        return mean(costs) if costs else 0.0

    for m in range(M):
        terms["private"] += nt_xent_at_each_place(p[0, m], p[1, m], present[m], apart, T)
    for v in range(V):
        for m, n in pairs:
            both = present[m] & present[n]
            terms["shared"] += nt_xent_at_each_place(s[v, m], s[v, n], both, apart, T)
            terms["orthogonality"] += aligned(p[v, m], p[v, n], both)
        for m in range(M):
            terms["orthogonality"] += aligned(s[v, m], p[v, m], present[m])
            terms["temporal"] += ranking(z[v, m], present[m], apart, margin)
    return terms


def ranking(z, there, apart, margin):
    """(S, L, D) and bool (S, L)."""
    S, L, _ = z.shape

    def distance(one, two):
        pairs = [(i, j) for i in range(L) for j in range(L) if there[one, i] and there[two, j] and not (one == two and i == j)]
        return mean(math.dist(z[one, i], z[two, j]) for i, j in pairs) if pairs else None

    costs = []
    for one in range(S):
        for two in range(S):
            d_in, d_out = distance(one, one), distance(one, two)
            if apart[one][two] and d_in is not None and d_out is not None:
                costs.append(max(0.0, d_in - d_out + margin))
    return mean(costs) if costs else 0.0
