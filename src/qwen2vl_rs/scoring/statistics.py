"""Cluster-robust confidence intervals and the McNemar test; clusters are images.

Questions about one image share its difficulty and are not independent: on RSVQA-LR the correct
standard error is about twice the naive one. Standard errors here are cluster-robust (CR1: sums of
residuals per cluster, times G/(G-1) for G clusters; Cameron & Miller, "A Practitioner's Guide to
Cluster-Robust Inference", 2015).

Symmetric intervals around an accuracy near 0 or 1, or around a difference with few changes, are too
short. Therefore the clustered error is converted to an effective number of independent questions
(Korn & Graubard 1998). It is used in Wilson's interval for an accuracy (recommended for clusters by
Dean & Pagano 2015), and in Bonett & Price's (2012) for a paired difference; both with Student's t
of G-1 degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

_NO_SPREAD = 1e-9  # above rounding errors, far below any actual standard error


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its confidence interval.

    Attributes:
        value: the mean.
        se: its standard error; None with fewer than two clusters.
        low, high: 95 % confidence interval.
        clusters: number of clusters.
    """

    value: float
    se: float | None
    low: float
    high: float
    clusters: int

    @property
    def ci(self) -> list[float]:
        """The interval, as stored in result files."""
        return [self.low, self.high]


def estimate(values: Floats, groups: Codes, clusters: Codes, low: float = 0.0) -> Estimate:
    """Estimate the unweighted mean of group means, with a clustered interval.

    One group gives the plain mean (OA); the question types as groups give AA.

    Args:
        values: one per question: a score in [0, 1], or a paired difference in [-1, 1]; not empty.
        groups: group of each question, as codes 0, 1, …, each in use.
        clusters: cluster of each question, as codes.
        low: smallest possible value (0 for accuracies, -1 for differences); the largest is 1.

    Returns:
        The estimate. If all clusters agree (every answer is correct, no answer has changed), the
        interval includes the largest share of clusters with the other extreme value that 95 %
        confidence does not exclude; for an accuracy of 1 or 0 this is the exact binomial interval
        with clusters as trials. A group without variance among others adds as much to their
        variance. With a single cluster, the interval is the whole range.
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
    # Less variance between clusters than expected by chance must not shorten the interval.
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
    """Return the largest share that 95 % confidence does not exclude after zero occurrences."""
    return float(1 - 0.025 ** (1 / trials))


def _wilson(share: float, variance: float, t: float) -> tuple[float, float]:
    """Return middle and half-width of Wilson's interval of a share, given its variance."""
    spread = share * (1 - share)
    if spread < _NO_SPREAD:
        return share, t * math.sqrt(variance)
    a = t * t * variance / spread  # t² over the effective number of questions
    return (share + a / 2) / (1 + a), math.sqrt(t * t * variance + a * a / 4) / (1 + a)


def _bonett_price(value: float, changed: float, variance: float, t: float) -> tuple[float, float]:
    """Return middle and half-width of the interval of a difference, with one win and loss added.

    Args:
        value: share of wins minus share of losses.
        changed: share of wins plus share of losses.
        variance: variance of the difference.
        t: quantile.
    """
    n = (changed - value**2) / variance
    middle = value * n / (n + 2)
    return middle, t * math.sqrt(changed * n + 2 - (value * n) ** 2 / (n + 2)) / (n + 2)


def overall(values: Floats, clusters: Codes, low: float = 0.0) -> Estimate:
    """Estimate the plain mean; see `estimate`."""
    return estimate(values, np.zeros(len(values), dtype=np.intp), clusters, low)


@lru_cache
def t_quantile(df: int) -> float:
    """Return the 97.5 % quantile of Student's t, to 12 digits.

    Bisects the exact series for integer degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4);
    above 10,000 degrees it returns the value at 10,000, which differs by less than 0.0003.
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
    """Return the two-sided p-value of the exact McNemar test on discordant pairs.

    The test assumes independent questions; with clusters its p-values are too small, and the
    clustered interval of the difference should be used instead.
    """
    n, fewer = wins + losses, min(wins, losses)
    k = np.arange(fewer)
    logs = np.concatenate([[0.0], np.cumsum(np.log((n - k) / (k + 1)))]) - n * math.log(2)
    top = float(logs.max())
    return min(1.0, 2 * math.exp(top) * float(np.exp(logs - top).sum()))
