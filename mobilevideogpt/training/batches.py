"""The clips of each step: equal for any number of processes, and equal after a resume."""

import signal
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset
from transformers.trainer_pt_utils import get_length_grouped_indices

from mobilevideogpt.data.prompts import IGNORED
from mobilevideogpt.model.modeling import shifted, supervised_positions


class NumberedSamples(Dataset):
    """Adds its number to each sample; number ``-1 - n`` is a padding sample: sample n without supervised tokens."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, number: int) -> dict:
        item = dict(self.dataset[number if number >= 0 else -1 - number])
        if number < 0:
            item["labels"] = torch.full_like(item["labels"], IGNORED)
        return {**item, "number": number}


def drawn_evenly(kinds: Sequence[str], generator: torch.Generator) -> list[int]:
    """Draw as many samples as there are, as many of each kind but for one more of some; kind after kind.

    All samples of a kind are drawn before one is drawn again.

    Args:
        kinds: That of each sample.
        generator: Draws which kinds get one more, and which samples.
    """
    of_kind: dict[str, list[int]] = {}
    for number, kind in enumerate(kinds):
        of_kind.setdefault(kind, []).append(number)
    each, more = divmod(len(kinds), len(of_kind))
    with_more = set(torch.randperm(len(of_kind), generator=generator)[:more].tolist())
    drawn: list[int] = []
    for place, numbers in enumerate(of_kind[kind] for kind in sorted(of_kind)):
        wanted = len(drawn) + each + (place in with_more)
        while len(drawn) < wanted:
            order = torch.randperm(len(numbers), generator=generator).tolist()
            drawn += [numbers[index] for index in order[: wanted - len(drawn)]]
    return drawn


class SharedBatches:
    """Batch sampler that shares each batch among the processes.

    All processes take the same number of steps. If a batch has fewer samples than there are processes, which happens
    only to the last of an epoch, padding samples fill the gaps. They add nothing to the loss.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        process: int,
        processes: int,
        seed: int | None,
        lengths: Sequence[int] | None = None,
        step_size: int | None = None,
        kinds: Sequence[str] | None = None,
    ):
        """Share ``n`` samples.

        Args:
            n: Number of samples.
            batch_size: Samples of a batch, over all processes together.
            process: Number of this process, from 0.
            processes: Number of processes.
            seed: Seed of the order in each epoch; None keeps the order of the samples.
            lengths: Tokens of each sample, to put samples of similar length into one step.
            step_size: Samples of a step, over several batches; one batch by default.
            kinds: That of each sample, if each epoch draws evenly from all kinds (`drawn_evenly`).
        """
        self.n, self.batch_size, self.process, self.processes, self.seed = n, batch_size, process, processes, seed
        self.lengths, self.step_size, self.kinds = lengths, step_size or batch_size, kinds
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.whole(self.epoch):
            yield batch[self.process :: self.processes] or [-1 - batch[0]]

    def whole(self, epoch: int) -> Iterator[list[int]]:
        """Yield the batches of an epoch, each of all processes together."""
        order = list(range(self.n))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            drawn = drawn_evenly(self.kinds, generator) if self.kinds else order
            if self.lengths is None:
                places = torch.randperm(self.n, generator=generator).tolist()
            else:
                lengths = [self.lengths[number] for number in drawn]
                places = get_length_grouped_indices(lengths, self.step_size, generator=generator)
            order = [drawn[place] for place in places]
        for start in range(0, self.n, self.batch_size):
            yield order[start : start + self.batch_size]


class Collate:
    """Pads samples on the right into a batch, to a multiple of ``multiple`` tokens.

    The batch has no attention mask: attention is causal, so no token sees the padding after it. ``numbers`` are those
    of the samples. ``logits_to_keep`` are the positions that predict an answer; computed here, they spare the model a
    wait for the GPU.
    """

    def __init__(self, processor, multiple: int = 1):
        self.processor, self.multiple = processor, multiple

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        numbers = torch.tensor([item.pop("number") for item in items])
        batch = dict(self.processor.pad(items, pad_to_multiple_of=self.multiple))
        del batch["attention_mask"]
        return {**batch, "numbers": numbers, "logits_to_keep": supervised_positions(shifted(batch["labels"]))}


def _ignore_signals(worker: int) -> None:
    """Keep a worker alive until the trainer has saved, if a signal reaches the whole process group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def data_loader(
    dataset: Dataset, collate: Collate, sampler: SharedBatches, workers: int, pin_memory: bool
) -> DataLoader:
    """Return a loader that does not touch the global random state; its workers live as long as it does."""
    return DataLoader(
        NumberedSamples(dataset),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),
    )
