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
