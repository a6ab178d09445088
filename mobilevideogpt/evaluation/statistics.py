"""Shares and paired differences with intervals and exact tests, and how many clips would decide (arXiv:2411.00640).

The unit is the group: clips of one recording or person, and the questions about one clip, are not independent.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05
POWER = 0.8
Z = float(stats.norm.isf(LEVEL / 2))
SUBSETS = 9999  # drawn at random where there are more
MOST_GROUPS = 20_000  # that a sample size is searched for


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Share:
    """A share of correct answers: the mean over the groups of the mean in each group."""

    value: float
    interval: Interval
    hits: float
    n: int
    groups: int


@dataclass(frozen=True)
class Comparison:
    """A comparison of answers with others, or with a fixed share.

    Attributes:
        better: Groups with more correct answers than the other has; None against a fixed share.
        worse: Groups with fewer.
        n: Number of samples.
        groups: Number of groups.
        difference: Mean over the groups.
        interval: Of the difference.
        p: Two-sided. It is below `LEVEL` exactly where the interval excludes 0.
    """

    better: int | None
    worse: int | None
    n: int
    groups: int
    difference: float
    interval: Interval
    p: float

    @property
    def gain(self) -> bool:
        """Whether the difference is significantly above 0."""
        return self.p < LEVEL and self.difference > 0

    @property
    def loss(self) -> bool:
        """Whether the difference is significantly below 0."""
        return self.p < LEVEL and self.difference < 0


def group_means(values: Sequence[float] | np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Return the mean of each group, in the order of the groups' first samples: ``(groups,)``."""
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    index = [number[group] for group in groups]
    return np.bincount(index, np.asarray(values, float)) / np.bincount(index)


def share(hits: Sequence[float], groups: Sequence[str]) -> Share:
    """Return a share with Clopper and Pearson's interval, at the effective sample size (Korn and Graubard 1998)."""
    means = group_means(hits, groups)
    value = float(means.mean())
    interval = _clopper_pearson(value, _effective_size(means, len(hits)))
    return Share(value, interval, float(np.sum(hits)), len(hits), len(means))


def compare(hits: Sequence[float], others: Sequence[float], groups: Sequence[str]) -> Comparison:
    """Compare the scores of the same samples in pairs.

    Where each group is better, worse or equal as a whole, the test is McNemar's exact test. Else it is the exact test
    of random signs on the groups' differences, of which McNemar's is a special case.

    The interval is the product of two: of the share of groups that differ, and of the mean difference in these.

    Args:
        hits: Scores from 0 to 1 ``(n,)``.
        others: Scores to compare with ``(n,)``.
        groups: Group of each sample ``(n,)``.
    """
    differences = group_means(np.subtract(np.asarray(hits, float), np.asarray(others, float)), groups)
    better, worse = int((differences > 1e-9).sum()), int((differences < -1e-9).sum())
    differing = differences[np.abs(differences) > 1e-9]
    if np.all(np.abs(differing) > 1 - 1e-9):
        within, p = _mcnemar(better, worse)
    else:
        within, p = _random_signs(differing)
    changed = _clopper_pearson(len(differing) / len(differences), len(differences))
    low = within.low * (changed.low if within.low > 0 else changed.high)
    high = within.high * (changed.low if within.high < 0 else changed.high)
    difference = float(differences.mean())
    return Comparison(better, worse, len(hits), len(differences), difference, Interval(low, high), p)


def compare_with_share(hits: Sequence[float], groups: Sequence[str], expected: float) -> Comparison:
    """Compare a share of correct answers with a fixed one, by the exact binomial test at the effective sample size."""
    means = group_means(hits, groups)
    size = _effective_size(means, len(hits))
    value = float(means.mean())
    found = value * size
    above = stats.beta.cdf(expected, found, size - found + 1) if found > 0 else 1.0  # P(X >= found)
    below = stats.beta.sf(expected, found + 1, size - found) if found < size else 1.0
    p = min(1.0, 2 * float(min(above, below)))
    low, high = _clopper_pearson(value, size)
    return Comparison(None, None, len(hits), len(means), value - expected, Interval(low - expected, high - expected), p)


@lru_cache(maxsize=4096)
def groups_to_detect(difference: float, differing: float, level: float = LEVEL) -> int:
    """Number of groups with which McNemar's exact test finds a true difference with a probability of `POWER`.

    Args:
        difference: The true difference, above 0.
        differing: Share of groups that differ, in either direction.
        level: Of the test.
    """
    differing = min(1.0, max(differing, difference))
    better = min(1.0, (1 + difference / differing) / 2)  # of those that differ
    start = (Z * math.sqrt(differing) / difference) ** 2  # half of them are found by then

    def power(n: int) -> float:
        discordant = np.arange(n + 1)
        critical = stats.binom.isf(level / 2, discordant, 0.5)  # more of them are significant
        return float(stats.binom.pmf(discordant, n, differing) @ stats.binom.sf(critical, discordant, better))

    return _smallest(power, start)


def groups_to_detect_mean(difference: float, deviation: float, level: float = LEVEL) -> int:
    """Number of groups with which a true mean difference is found likewise, by the normal approximation.

    Args:
        difference: The true difference, above 0.
        deviation: Standard deviation of the groups' differences.
        level: Of the test.
    """
    fewest = math.ceil(1 - math.log2(level))  # random signs of n groups give p-values from 2 / 2**n
    errors = float(stats.norm.isf(level / 2) + stats.norm.ppf(POWER))  # in standard errors
    return max(fewest, math.ceil((errors * deviation / difference) ** 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of several tests, adjusted so that all errors together stay below `LEVEL` (Holm 1979)."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p_values, float)[order] * factors))
    return adjusted.tolist()


@lru_cache(maxsize=4096)
def groups_to_exceed(share: float, expected: float) -> int:
    """Number of groups with which the exact binomial test tells a share from a smaller one, likewise."""
    spread = Z * math.sqrt(expected * (1 - expected))
    return _smallest(
        lambda n: float(stats.binom.sf(stats.binom.isf(LEVEL / 2, n, expected), n, share)),
        (spread / (share - expected)) ** 2,
    )


def _smallest(power: Callable[[int], float], start: float) -> int:
    n = max(1, math.floor(start))
    while n < MOST_GROUPS and power(n) < POWER:
        n += max(1, n // 50)
    return n


def _effective_size(means: np.ndarray, n: int) -> float:
    """Number of independent samples with the same standard error: from the number of groups to that of samples."""
    groups, value = len(means), float(means.mean())
    if groups == n or groups == 1 or not 0 < value < 1:
        return groups
    variance = float(means.var(ddof=1)) / groups
    few = (Z / float(stats.t.isf(LEVEL / 2, groups - 1))) ** 2  # the variance is an estimate
    return min(n, max(groups, few * value * (1 - value) / max(variance, 1e-12)))


@lru_cache(maxsize=4096)
def _clopper_pearson(value: float, size: float) -> Interval:
    found = value * size
    low = stats.beta.ppf(LEVEL / 2, found, size - found + 1) if found > 1e-9 else 0.0
    high = stats.beta.isf(LEVEL / 2, found + 1, size - found) if found < size - 1e-9 else 1.0
    return Interval(float(low), float(high))


@lru_cache(maxsize=4096)
def _mcnemar(better: int, worse: int) -> tuple[Interval, float]:
    """Mean sign of the groups that differ."""
    if not better + worse:
        return Interval(-1.0, 1.0), 1.0
    test = stats.binomtest(better, better + worse)
    low, high = test.proportion_ci(1 - LEVEL, method="exact")
    return Interval(2 * low - 1, 2 * high - 1), float(test.pvalue)


def _random_signs(differences: np.ndarray) -> tuple[Interval, float]:
    """Mean of the differences.

    The signs of a subset are changed. The mean then rises exactly if the mean of that subset is below 0, so that the
    means of all subsets give the test, and their quantiles its interval (Hartigan 1969).
    """
    subsets = _subsets(len(differences))  # (subsets, groups)
    sums = subsets @ differences
    total = len(sums) + 1  # the empty subset changes nothing
    p = 2 * (1 + min((sums <= 1e-9).sum(), (sums >= -1e-9).sum())) / total
    rejected = math.floor(total * LEVEL / 2) - 1
    if rejected < 0:
        return Interval(-1.0, 1.0), min(1.0, p)
    means = np.sort(sums / subsets.sum(axis=1))
    return Interval(float(means[rejected]), float(means[-1 - rejected])), min(1.0, p)


@lru_cache(maxsize=16)
def _subsets(size: int) -> np.ndarray:
    """Non-empty subsets as rows of 0 and 1: all, or `SUBSETS` of them at random."""
    if 2**size - 1 <= SUBSETS:
        rows = (np.arange(1, 2**size)[:, None] >> np.arange(size)) & 1
    else:
        rows = np.random.default_rng(0).integers(0, 2, (SUBSETS, size))
        rows = rows[rows.any(axis=1)]
    return rows.astype(np.float32)
