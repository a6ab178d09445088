"""Which clips a step sees: the same whatever the number of processes, the same again after a resume."""

import math
import signal
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset
from transformers.trainer_pt_utils import get_length_grouped_indices

from mobilevideogpt.data.prompts import IGNORED
from mobilevideogpt.model.modeling import shifted, supervised_positions


def recorded_multiple(text_tokens: int) -> int:
    """What to fill batches up to a multiple of, where each length is recorded by itself, by the tokens of the longest
    text: four lengths or five occur.
    """
    return 64 * max(1, math.ceil(text_tokens / 256))


class NumberedClips(Dataset):
    """Add to each item its number; ``-1 - n`` asks for a stand-in of item n without supervised tokens."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, number: int) -> dict:
        item = dict(self.dataset[number if number >= 0 else -1 - number])
        if number < 0:
            item["labels"] = torch.full_like(item["labels"], IGNORED)
        return {**item, "number": number}


class SharedBatches:
    """Batch sampler that deals each batch out to the processes.

    Every process takes as many steps as the others. Where a batch does not go round, which happens only to the last of
    an epoch, a stand-in without supervised tokens fills the place: it adds nothing to the loss.
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
    ):
        """Deal out ``n`` items, ``batch_size`` to all processes together.

        Args:
            seed: Of an epoch's order; None keeps that of the items.
            lengths: Tokens of each item, if items of similar length are to come together.
            step_size: How many items, over several batches; default: one batch.
        """
        self.n, self.batch_size, self.process, self.processes, self.seed = n, batch_size, process, processes, seed
        self.lengths, self.step_size = lengths, step_size or batch_size
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.whole(self.epoch):
            yield batch[self.process :: self.processes] or [-1 - batch[0]]

    def whole(self, epoch: int) -> Iterator[list[int]]:
        """Yield the batches of an epoch, of all processes together."""
        order = list(range(self.n))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            if self.lengths is None:
                order = torch.randperm(self.n, generator=generator).tolist()
            else:
                order = get_length_grouped_indices(self.lengths, self.step_size, generator=generator)
        for start in range(0, self.n, self.batch_size):
            yield order[start : start + self.batch_size]


class Collate:
    """Pad items behind their text into a batch, to a multiple of ``multiple`` tokens.

    There is no attention mask, as nothing looks back at what lies behind it. ``numbers`` tell which items are in the
    batch, ``logits_to_keep`` where an answer is predicted; the model would have to ask the GPU for it.
    """

    def __init__(self, processor, multiple: int = 1):
        self.processor, self.multiple = processor, multiple

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        numbers = torch.tensor([item.pop("number") for item in items])
        batch = dict(self.processor.pad(items, pad_to_multiple_of=self.multiple))
        del batch["attention_mask"]
        return {**batch, "numbers": numbers, "logits_to_keep": supervised_positions(shifted(batch["labels"]))}


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Let a reading process live until the trainer has saved, when a signal goes to the whole process group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def batches(dataset: Dataset, collate: Collate, sampler: SharedBatches, workers: int, pin_memory: bool) -> DataLoader:
    """Return a loader that leaves the global random state alone."""
    return DataLoader(
        NumberedClips(dataset),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_the_trainer,
        generator=torch.Generator(),
    )
