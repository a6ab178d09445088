"""Which samples a step sees."""

from collections import Counter

import pytest
import torch

from mobilevideogpt.training.batches import SharedBatches


@pytest.mark.parametrize("n", [7, 8, 9, 12])
def test_the_processes_together_see_the_batches_of_one(n):
    def epoch(process, processes):
        batches = SharedBatches(n, 4, process, processes, seed=1)
        batches.epoch = 3
        return list(batches)

    whole, shared = epoch(0, 1), [epoch(process, 2) for process in range(2)]
    assert len(shared[0]) == len(shared[1]) == len(whole)
    for batch, *parts in zip(whole, *shared, strict=True):
        assert sorted(batch) == sorted(number for part in parts for number in part if number >= 0)
    assert sorted(number for batch in whole for number in batch) == list(range(n))


def test_a_balanced_epoch_has_equally_many_samples_of_each_kind_over_any_processes():
    kinds = ["squats"] * 17 + ["lunges"] * 3 + ["planks"] * 2

    def epoch(number, process=0, processes=1, **grouping):
        batches = SharedBatches(22, 4, process, processes, 1, kinds=kinds, **grouping)
        batches.epoch = number
        return list(batches)

    seen = set()
    for number in range(8):
        drawn = [n for batch in epoch(number) for n in batch]
        assert sorted(Counter(kinds[n] for n in drawn).values()) == [7, 7, 8]
        squats = [n for n in drawn if n < 17]
        assert len(set(squats)) == len(squats), "none twice while others wait"
        assert min(Counter(n for n in drawn if n >= 20).values()) >= 3
        assert sorted(n for p in range(2) for b in epoch(number, p, 2) for n in b if n >= 0) == sorted(drawn)
        assert epoch(number) == epoch(number), "a resumed run draws the same"
        seen |= set(drawn)
    assert seen == set(range(22)), "over some epochs, every sample"
    assert epoch(0) != epoch(1)
    lengths = list(range(22))
    assert sorted(n for b in epoch(0, lengths=lengths) for n in b) == sorted(n for b in epoch(0) for n in b)


def test_every_epoch_has_its_own_order():
    batches = SharedBatches(32, 4, 0, 1, seed=1)
    first = list(batches)
    batches.epoch = 1
    assert first != list(batches)


def test_items_of_similar_length_share_a_step_however_it_is_cut():
    lengths = torch.randint(100, (1003,), generator=torch.Generator().manual_seed(0)).tolist()

    def steps(batch_size, lengths=lengths):
        order = [n for batch in SharedBatches(1003, batch_size, 0, 1, 1, lengths, step_size=4) for n in batch]
        assert sorted(order) == list(range(1003))
        return [order[start : start + 4] for start in range(0, 1003, 4)]

    def padded(steps):
        return sum(max(lengths[n] for n in step) * len(step) - sum(lengths[n] for n in step) for step in steps)

    assert steps(4) == steps(2) == steps(1)
    assert padded(steps(4)) < padded(steps(4, lengths=None)) / 3
