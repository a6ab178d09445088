"""Callbacks of the Trainer: when to evaluate, save and stop; the log as lines of JSON; progress on the terminal."""

from __future__ import annotations

import copy
import json
import logging
import signal
import sys
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback

from mobilevideogpt.log import ERASE
from mobilevideogpt.training.batches import SharedBatches
from mobilevideogpt.training.guards import out_of_patience

logger = logging.getLogger(__name__)


class GracefulStop(AbstractContextManager):
    """Catches SIGINT and SIGTERM: training saves a checkpoint after the step and stops.

    Before training (``defer`` unset) they end the process at once, as there is nothing to save.
    """

    def __init__(self):
        self.signal: int | None = None
        self.defer = False

    def __enter__(self):
        self._handlers = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if not self.defer:
            raise SystemExit(128 + number)
        if self.signal is None:
            self.signal = number
            tell(f"{signal.Signals(number).name}: saving a checkpoint after this step, then stopping")

    def requested(self, processes: int, device: torch.device) -> bool:
        """Whether any process caught a signal; all of them learn it in the same step."""
        if processes > 1:
            caught = torch.tensor(self.signal or 0, device=device)
            torch.distributed.all_reduce(caught, torch.distributed.ReduceOp.MAX)
            self.signal = int(caught) or None
        return self.signal is not None


@dataclass
class FlowCallback(TrainerCallback):
    """Decides when to evaluate, to save and to stop, from steps and log alone, so that a resumed run does the same."""

    batches: SharedBatches
    steps_per_epoch: int
    save_steps: int
    patience: int | None
    validates: bool
    stop: GracefulStop

    def on_epoch_begin(self, args, state, control, **_):
        self.batches.epoch = state.global_step // self.steps_per_epoch

    def on_step_end(self, args, state, control, **_):
        step = state.global_step
        epoch_ends = step % self.steps_per_epoch == 0 or step >= state.max_steps
        control.should_evaluate = epoch_ends and self.validates
        control.should_save = epoch_ends or step % self.save_steps == 0
        if self.stop.requested(args.world_size, args.device):
            control.should_save = control.should_training_stop = True

    def on_evaluate(self, args, state, control, **_):
        if out_of_patience(state.log_history, self.patience):
            control.should_training_stop = True


class JsonLinesCallback(TrainerCallback):
    """Writes each entry of the log as a line of JSON at once; a resumed run continues the file."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args, state, control, **_):
        if state.is_world_process_zero:
            self.path.write_text("".join(_json_line(entry) for entry in state.log_history), encoding="utf-8")

    def on_log(self, args, state, control, **_):
        if state.is_world_process_zero:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(_json_line(state.log_history[-1]))


def _json_line(entry: dict) -> str:
    return json.dumps(entry, sort_keys=True) + "\n"


class TensorBoardHistory(TrainerCallback):
    """Writes the log of all steps for TensorBoard again, if a resumed training has lost it."""

    def __init__(self, folder: Path, callbacks: list[TrainerCallback]):
        self.lost = not any(folder.glob("*tfevents*"))
        self.writers = [callback for callback in callbacks if isinstance(callback, TensorBoardCallback)]

    def on_train_begin(self, args, state, control, **_):
        for entry in state.log_history if self.lost else ():
            then = copy.copy(state)
            then.global_step = entry["step"]
            for writer in self.writers:
                writer.on_log(args, then, control, logs={key: entry[key] for key in entry.keys() - {"step"}})


class LossDisplay(TrainerCallback):
    """Shows losses and the remaining time on standard error: a bar on a terminal, else a line an epoch."""

    LOSSES = ("loss", "loss"), ("validation loss", "eval_loss")  # label, key in the log

    def __init__(self, validates: bool):
        self.validates = validates
        self.bar: tqdm | None = None
        self.losses: dict[str, str] = {}
        self.started, self.first_step = 0.0, 0

    def on_train_begin(self, args, state, control, **_):
        self.started, self.first_step = time.monotonic(), state.global_step
        if state.is_world_process_zero and self.first_step:
            tell(f"Resuming from checkpoint-{self.first_step}, step {self.first_step} of {state.max_steps}")
        if state.is_world_process_zero and sys.stderr.isatty():
            options = {"desc": "fine-tuning", "unit": "step", "leave": False}
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, **options)

    def on_step_end(self, args, state, control, **_):
        if self.bar is not None:
            self.bar.update()

    def on_log(self, args, state, control, logs, **_):
        self.losses |= {label: f"{logs[key]:.4g}" for label, key in self.LOSSES if key in logs}
        if self.bar is not None:
            self.bar.set_postfix(self.losses)
        elif "eval_loss" in logs and state.is_world_process_zero:
            self._print(state)

    def on_epoch_end(self, args, state, control, **_):
        if not self.validates and state.is_world_process_zero and self.bar is None:
            self._print(state)

    def on_train_end(self, args, state, control, **_):
        if self.bar is not None:
            self.bar.close()

    def _print(self, state):
        done = state.global_step - self.first_step
        left = (time.monotonic() - self.started) / done * (state.max_steps - state.global_step) if done else None
        losses = ", ".join(f"{label} {value}" for label, value in self.losses.items())
        remaining = f", {left // 60:.0f} min {left % 60:.0f} s left" if left else ""
        tell(f"step {state.global_step}/{state.max_steps}: {losses}{remaining}")


def tell(line: str) -> None:
    """Log a line and print it on the terminal, if that still exists."""
    logger.info(line)
    with suppress(OSError):
        print(f"{ERASE if sys.stderr.isatty() else ''}{line}", file=sys.stderr, flush=True)
