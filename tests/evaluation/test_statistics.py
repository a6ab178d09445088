"""Tests and intervals against SciPy's, and on cases that can be counted by hand."""

import numpy as np
import pytest
from scipy import stats

from mobilevideogpt.evaluation.statistics import (
    LEVEL,
    compare,
    compare_with_share,
    groups_to_detect,
    groups_to_detect_mean,
    groups_to_exceed,
    holm,
    share,
)


def singles(n):
    return [str(i) for i in range(n)]


def test_single_samples_are_compared_by_mcnemars_exact_test():
    found = compare([1] * 6 + [0] * 2, [0] * 6 + [0, 1], singles(8))
    assert (found.better, found.worse, found.n, found.groups) == (6, 1, 8, 8)
    assert found.p == pytest.approx(stats.binomtest(6, 7).pvalue) and found.difference == pytest.approx(5 / 8)
    assert compare([1] * 6, [0] * 6, singles(6)).p == pytest.approx(0.03125)


def test_groups_of_several_samples_are_compared_by_the_test_of_random_signs():
    draw = np.random.default_rng(3)
    hits, others = draw.integers(0, 2, (2, 36)).astype(float)
    hits[:14] = 1
    groups = [str(i // 3) for i in range(36)]
    found = compare(hits, others, groups)
    differences = (hits - others).reshape(12, 3).mean(axis=1)
    nonzero = differences[differences != 0]
    expected = stats.permutation_test((nonzero,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.n, found.groups) == (36, 12)


def test_a_repeated_sample_of_one_group_adds_nothing():
    once = compare([1, 1, 0], [0, 0, 1], ["a", "b", "c"])
    thrice = compare([1, 1, 0] * 3, [0, 0, 1] * 3, ["a", "b", "c"] * 3)
    assert (thrice.p, thrice.interval, thrice.groups) == (once.p, once.interval, 3)


@pytest.mark.parametrize("size", [1, 3])
def test_the_interval_excludes_no_difference_exactly_where_the_test_rejects(size):
    draw = np.random.default_rng(size)
    rejected = 0
    for _ in range(60):
        groups = np.repeat(np.arange(20), size).astype(str)
        a, b = (draw.random(20 * size) < 0.75).astype(int), (draw.random(20 * size) < 0.4).astype(int)
        found = compare(a, b, list(groups))
        assert (found.p < LEVEL) == (found.interval.low > 0 or found.interval.high < 0)
        assert found.interval.low <= found.difference <= found.interval.high
        rejected += found.p < LEVEL
    assert 5 < rejected < 60


def test_equal_answers_of_a_few_clips_do_not_exclude_a_gain():
    few, many = compare([1, 0] * 6, [1, 0] * 6, singles(12)), compare([1, 0] * 60, [1, 0] * 60, singles(120))
    assert few.p == many.p == 1
    assert few.interval.high > 0.2 and many.interval.high < 0.05
    one = compare([1] + [0] * 23, [0] * 24, singles(24))
    assert one.interval.high > 0.1  # one of 24 differs; a tenth may


def test_the_interval_of_the_difference_holds_the_truth_in_95_percent():
    draw, held = np.random.default_rng(0), 0
    for _ in range(300):
        base = draw.random(40) < 0.5
        tuned = np.where(draw.random(40) < 0.3, ~base & (draw.random(40) < 0.9), base)
        truth = 0.3 * (0.5 * 0.9 - 0.5)
        low, high = compare(tuned.astype(int), base.astype(int), singles(40)).interval
        held += low <= truth <= high
    assert held / 300 >= 0.95


def test_a_share_of_single_samples_has_the_exact_interval():
    found = share([1] * 5 + [0], singles(6))
    assert found.interval == pytest.approx(stats.binomtest(5, 6).proportion_ci())
    assert (found.value, found.hits, found.n, found.groups) == (5 / 6, 5, 6, 6)


def test_a_share_of_dependent_samples_has_a_wider_interval():
    hits = ([1] * 10 + [0] * 10) * 3
    apart, together = share(hits, singles(60)), share(hits, [str(i // 10) for i in range(60)])
    assert together.interval == pytest.approx(stats.binomtest(3, 6).proportion_ci())
    assert together.interval.high - together.interval.low > 2 * (apart.interval.high - apart.interval.low)


def test_a_share_is_compared_with_chance_by_the_exact_binomial_test():
    found = compare_with_share([1] * 5 + [0], singles(6), 1 / 6)
    assert found.p == pytest.approx(2 * stats.binomtest(5, 6, 1 / 6, alternative="greater").pvalue)
    assert found.difference == pytest.approx(4 / 6) and found.better is None
    assert compare_with_share([1, 0], singles(2), 0.5).p == 1


def test_that_many_clips_find_the_gain_in_80_percent():
    n = groups_to_detect(0.3, 0.4)
    draw = np.random.default_rng(0)
    better, worse, _ = draw.multinomial(n, [0.35, 0.05, 0.6], size=2000).T
    found = [b > w and stats.binomtest(int(b), int(b + w)).pvalue < LEVEL for b, w in zip(better, worse, strict=True)]
    assert 0.78 < np.mean(found) < 0.88
    assert groups_to_detect(1.0, 1.0) == 6
    assert 150 < groups_to_detect(0.1, 0.2) < 200
    assert groups_to_exceed(0.5, 1 / 6) == pytest.approx(16, abs=4)


def test_p_values_are_adjusted_by_holms_method():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # as R's p.adjust
    assert holm([0.7, 0.6]) == [1.0, 1.0] and holm([0.2]) == [0.2]


def test_of_three_equal_models_a_pair_is_told_apart_in_at_most_five_percent():
    """Counted over pairs without the adjustment, it would be about twice as often."""
    draw, groups = np.random.default_rng(5), singles(60)
    adjusted = single = 0
    for _ in range(400):
        hits = draw.integers(0, 2, (3, 60)).astype(float)
        p_values = [compare(hits[i], hits[j], groups).p for i, j in ((0, 1), (0, 2), (1, 2))]
        adjusted += min(holm(p_values)) < LEVEL
        single += min(p_values) < LEVEL
    assert adjusted <= 0.05 * 400 < single


def test_the_sample_size_for_a_mean_difference_finds_it_four_times_in_five():
    draw, n = np.random.default_rng(6), groups_to_detect_mean(0.1, 0.25)
    trials = draw.normal(0.1, 0.25, (200, n))
    found = [compare(list(0.5 + row / 2), list(0.5 - row / 2), singles(n)).gain for row in trials]
    assert 0.7 <= np.mean(found) <= 0.9
    assert groups_to_detect_mean(1.0, 0.0) == 6
