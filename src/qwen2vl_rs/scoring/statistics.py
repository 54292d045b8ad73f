"""Estimates with intervals for questions that come in clusters: many are asked of one image.

Questions of one image share its difficulty, so they are not independent: on RSVQA-LR the honest
standard error is about twice the naive one. Standard errors here are cluster-robust (CR1: sums
of residuals per cluster, times G/(G-1) for G clusters; Cameron & Miller, "A Practitioner's Guide
to Cluster-Robust Inference", 2015).

Symmetric intervals around an accuracy near 0 or 1, or around a difference made of few changes,
are too short. So the clustered error is turned into the number of independent questions that
would have it (Korn & Graubard 1998), and with that many Wilson's interval is taken for an
accuracy (Dean & Pagano 2015 recommend it for clusters), Bonett & Price's (2012) for a paired
difference; both with Student's t of G-1 degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

_NO_SPREAD = 1e-9  # above rounding errors, far below any real standard error


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and how far it can be trusted.

    Attributes:
        value: the mean.
        se: its standard error; None with fewer than two clusters.
        low, high: 95 % interval.
        clusters: number of clusters behind it.
    """

    value: float
    se: float | None
    low: float
    high: float
    clusters: int

    @property
    def ci(self) -> list[float]:
        """The interval as results files hold it."""
        return [self.low, self.high]


def estimate(values: Floats, groups: Codes, clusters: Codes, low: float = 0.0) -> Estimate:
    """The unweighted mean over groups of the means within groups, with a clustered interval.

    One group gives the plain mean (OA), the question types as groups give AA.

    Args:
        values: one per question: 0 or 1, or for a paired difference -1, 0 or 1; not empty.
        groups: group of each question, as codes 0, 1, …, each in use.
        clusters: cluster of each question, as codes.
        low: least possible value (0 for accuracies, -1 for differences); the greatest is 1.

    Returns:
        The estimate. Where all clusters agree (every answer is right, no answer has changed)
        there is no spread to go by: then the interval allows for as many clusters of the
        utmost other value as 95 % confidence cannot exclude, which for an accuracy of 1 or 0 is
        the exact binomial interval with clusters as trials; a group without spread beside
        others adds as much to their spread. With a single cluster it is the whole range.
    """
    sizes = np.bincount(groups)
    k = len(sizes)
    means = _means(values, groups, sizes)
    value = float(means.mean())
    _, codes = np.unique(clusters, return_inverse=True)
    g = int(codes.max()) + 1
    if g < 2:
        return Estimate(value, None, low, 1.0, g)
    influence = (values - means[groups]) / (sizes[groups] * k)
    sums = np.bincount(codes, weights=influence)
    se = math.sqrt(g / (g - 1) * float(sums @ sums))
    if se < _NO_SPREAD and k == 1:
        unseen = _unseen(g)
        return Estimate(value, se, value - unseen * (value - low), value + unseen * (1 - value), g)
    spread = _means(values**2, groups, sizes) - means**2
    silent = np.flatnonzero(spread < _NO_SPREAD)
    floors = [_unseen(len(np.unique(codes[groups == n]))) for n in silent]
    t = t_quantile(g - 1)
    # Clusters that differ less than chance would have them are no reason for more certainty.
    variance = max(se**2, float((spread / sizes).sum()) / k**2)
    variance += sum((floor / t / k) ** 2 for floor in floors)
    if low == 0:
        middle, reach = _wilson(value, variance, t)
    else:
        changed = float(_means(np.abs(values), groups, sizes).mean())
        middle, reach = _bonett_price(value, changed, variance, t)
    return Estimate(value, se, max(low, middle - reach), min(1.0, middle + reach), g)


def _means(values: Floats, groups: Codes, sizes: NDArray[np.intp]) -> Floats:
    return np.bincount(groups, weights=values) / sizes


def _unseen(trials: int) -> float:
    """The greatest share that 95 % confidence does not exclude where no trial showed it."""
    return float(1 - 0.025 ** (1 / trials))


def _wilson(share: float, variance: float, t: float) -> tuple[float, float]:
    """Middle and half the width of Wilson's interval of a share that has a variance."""
    spread = share * (1 - share)
    if spread < _NO_SPREAD:
        return share, t * math.sqrt(variance)
    a = t * t * variance / spread  # t² over the effective number of questions
    return (share + a / 2) / (1 + a), math.sqrt(t * t * variance + a * a / 4) / (1 + a)


def _bonett_price(value: float, changed: float, variance: float, t: float) -> tuple[float, float]:
    """Middle and half the width of a difference's interval: one win and one loss are added.

    Args:
        value: share of wins minus share of losses.
        changed: share of both together.
        variance: of the difference.
        t: quantile.
    """
    n = (changed - value**2) / variance
    middle = value * n / (n + 2)
    return middle, t * math.sqrt(changed * n + 2 - (value * n) ** 2 / (n + 2)) / (n + 2)


def overall(values: Floats, clusters: Codes, low: float = 0.0) -> Estimate:
    """`estimate` of the plain mean."""
    return estimate(values, np.zeros(len(values), dtype=np.intp), clusters, low)


@lru_cache
def t_quantile(df: int) -> float:
    """The 97.5 % quantile of Student's t, to 12 digits.

    By bisection of the exact series for whole degrees of freedom (Abramowitz & Stegun 26.7.3
    and 26.7.4); above 10,000 degrees the value there, which differs by less than 0.0003.
    """
    df = min(df, 10_000)
    low, high = 0.0, math.pi / 2
    for _ in range(64):
        middle = (low + high) / 2
        if _t_mass(middle, df) < 0.95:
            low = middle
        else:
            high = middle
    return math.sqrt(df) * math.tan(low)


def _t_mass(angle: float, df: int) -> float:
    """P(abs(t) < sqrt(df)·tan(angle))."""
    k = np.arange(1, (df - 1) // 2 + 1 if df % 2 else df // 2)
    squares = math.cos(angle) ** 2
    if df % 2 == 0:
        series = 1 + float(np.cumprod((2 * k - 1) / (2 * k) * squares).sum())
        return math.sin(angle) * series
    if df == 1:
        return 2 * angle / math.pi
    tail = np.cumprod(2 * k[:-1] / (2 * k[:-1] + 1) * squares)
    series = math.cos(angle) * (1 + float(tail.sum()))
    return 2 / math.pi * (angle + math.sin(angle) * series)


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided p of the exact McNemar test: fair coin, one toss per discordant pair.

    It takes questions for independent; where they come in clusters it is too sure of itself,
    and the clustered interval of the difference is the one to go by.
    """
    n, fewer = wins + losses, min(wins, losses)
    k = np.arange(fewer)
    logs = np.concatenate([[0.0], np.cumsum(np.log((n - k) / (k + 1)))]) - n * math.log(2)
    top = float(logs.max())
    return min(1.0, 2 * math.exp(top) * float(np.exp(logs - top).sum()))
