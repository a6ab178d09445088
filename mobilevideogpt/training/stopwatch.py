"""Where the time of a training goes: to its first step, to the other steps, to validation, to checkpoints."""

import statistics
import time

from transformers import TrainerCallback


class Stopwatch(TrainerCallback):
    """Attributes each moment from the begin of the training to its end to one kind of work.

    The log of a step is the mark of its end, as the loss is read there, for which the CPU waits for the GPU.

    Attributes:
        step_seconds: Of each step of this process, in order; the first one compiles kernels and captures CUDA graphs.
        validation_seconds: Of all validations.
        saving_seconds: Of all checkpoints.
    """

    def __init__(self):
        self.step_seconds: list[float] = []
        self.validation_seconds = self.saving_seconds = 0.0
        self._mark = time.monotonic()

    def _lap(self) -> float:
        before, self._mark = self._mark, time.monotonic()
        return self._mark - before

    def on_train_begin(self, args, state, control, **_):
        self._lap()

    def on_log(self, args, state, control, logs, **_):
        if "loss" in logs:
            self.step_seconds.append(self._lap())

    def on_evaluate(self, args, state, control, **_):
        self.validation_seconds += self._lap()

    def on_save(self, args, state, control, **_):
        self.saving_seconds += self._lap()

    def seconds_of(self, whole: float) -> dict[str, float]:
        """Return the seconds of each kind of work; ``start_and_end`` is what is left of ``whole`` seconds."""
        first, others = sum(self.step_seconds[:1]), sum(self.step_seconds[1:])
        rest = whole - first - others - self.validation_seconds - self.saving_seconds
        parts = {
            "first_step": first,
            "other_steps": others,
            "validation": self.validation_seconds,
            "checkpoints": self.saving_seconds,
            "start_and_end": rest,
        }
        return {name: round(seconds, 2) for name, seconds in parts.items()}

    def median_step_seconds(self) -> float | None:
        """Return the median of all steps but the first; None if there was no other."""
        return statistics.median(self.step_seconds[1:]) if len(self.step_seconds) > 1 else None
