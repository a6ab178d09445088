"""The Trainer of Stage 3: language model and projectors, each at its learning rate, and checkpoints that are whole."""

import json
import logging
import math
import shutil
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from tqdm import tqdm
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from mobilevideogpt.data.features import with_features
from mobilevideogpt.data.prompts import IGNORED
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import replacing_folder, write_json
from mobilevideogpt.model.adapter import PROJECTORS
from mobilevideogpt.training.batches import Collate, SharedBatches, batches

logger = logging.getLogger(__name__)

MARKER = "digest.json"  # written last into a checkpoint: what it was made from, and that it is whole
LANGUAGE_MODEL = ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")
# A loss explodes when it is high in EXPLODING steps on end, compared with FEWEST to USUAL steps before them.
EXPLODING, USUAL, FEWEST = 3, 50, 5
# fp16's loss scale starts at 2**16 and is halved, and the step passed over, whenever a gradient overflows.
MOST_OVERFLOWS = 20


def kind_of(name: str) -> str:
    """Return ``lora``, ``projectors`` or ``language_model``, for the name of a trainable parameter."""
    if "lora_" in name:
        return "lora"
    if not set(PROJECTORS).isdisjoint(name.split(".")):
        return "projectors"
    if name.startswith(LANGUAGE_MODEL):  # not so within PEFT's model, where it is frozen
        return "language_model"
    raise ValueError(f"{name} is trainable, but is neither LoRA's nor a projector's nor the language model's")


def parameter_groups(model: nn.Module, learning_rates: dict[str, float], weight_decay: float) -> list[dict]:
    """Group the trainable parameters for AdamW by kind and, where there is weight decay, by whether they take it.

    Biases and norms (one-dimensional) do not decay. No group is empty: DeepSpeed drops empty ones, which would shift
    the learning rates of those after it (deepspeedai/DeepSpeedExamples#756).
    """
    groups: dict[tuple, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.dtype != torch.float32:
            raise ValueError(f"{name} is trained in {parameter.dtype}; small steps would be rounded away")
        kind = kind_of(name)
        decay = weight_decay if parameter.dim() > 1 else 0.0
        group = groups.setdefault(
            (kind, decay), {"params": [], "lr": learning_rates[kind], "weight_decay": decay, "kind": kind}
        )
        group["params"].append(parameter)
    return list(groups.values())


def autocast(model: nn.Module, device_type: str) -> None:
    """Run the forward pass of ``model`` under bf16 autocast, in place.

    It wraps the module itself: DeepSpeed switches an autocast outside its engine off, and its own would also round the
    gradients that the processes exchange. Rounded copies of the weights are not kept for the whole pass: each weight is
    used once in it.
    """
    model.forward = torch.autocast(device_type, dtype=torch.bfloat16, cache_enabled=False)(model.forward)


class Stop(AbstractContextManager):
    """Take SIGINT and SIGTERM as a wish to stop after the step, any number of them.

    Before training (``at_a_step_end`` unset) they end the process at once, as nothing could be saved.
    """

    def __init__(self):
        self.signal: int | None = None
        self.at_a_step_end = False

    def __enter__(self):
        self._before = {number: signal.signal(number, self._wish) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _wish(self, number, frame):
        if not self.at_a_step_end:
            raise SystemExit(128 + number)
        if self.signal is None:
            self.signal = number
            _say(f"{signal.Signals(number).name}: saving a checkpoint after this step, then stopping")

    def agreed(self, processes: int, device: torch.device) -> bool:
        """Whether any process was asked to stop; all of them learn it in the same step."""
        if processes > 1:
            asked = torch.tensor(self.signal or 0, device=device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            self.signal = int(asked) or None
        return self.signal is not None


class Rhythm(TrainerCallback):
    """When to evaluate, to save and to stop: derived from the steps and the log, so that a resumed run keeps it."""

    def __init__(self, trainer: "FinetuneTrainer"):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **_):
        self.trainer.train_batches.epoch = state.global_step // self.trainer.steps_per_epoch

    def on_step_end(self, args, state, control, **_):
        trainer, step = self.trainer, state.global_step
        epoch_ends = step % trainer.steps_per_epoch == 0 or step >= state.max_steps
        control.should_evaluate = epoch_ends and trainer.eval_dataset is not None
        control.should_save = epoch_ends or step % trainer.settings.save_steps == 0
        if trainer.stop.agreed(args.world_size, args.device):
            control.should_save = control.should_training_stop = True

    def on_evaluate(self, args, state, control, **_):
        if out_of_patience(state.log_history, self.trainer.settings.early_stopping_patience):
            control.should_training_stop = True


def out_of_patience(log_history: list[dict], patience: int | None) -> bool:
    """Whether the last ``patience`` validation losses brought nothing better; a resumed run finds the same answer."""
    losses = [entry["eval_loss"] for entry in log_history if "eval_loss" in entry]
    return bool(patience and losses) and len(losses) - 1 - losses.index(min(losses)) >= patience


def exploding_since(log_history: list[dict], ratio: float | None) -> int | None:
    """Return the step in which the training loss began to explode, or None.

    It explodes when it is, `EXPLODING` steps on end, above ``ratio`` times the median of the steps before and also
    above where training began: a model that knows its clips by heart may stumble, and a hard clip costs one step.
    """
    backwards = ((entry["step"], entry["loss"]) for entry in reversed(log_history) if "loss" in entry)
    latest, usual = list(islice(backwards, EXPLODING)), [loss for _, loss in islice(backwards, USUAL)]
    if ratio is None or len(usual) < FEWEST:
        return None
    first = islice((entry["loss"] for entry in log_history if "loss" in entry), min(USUAL // FEWEST, len(usual)))
    limit = max(ratio * median(usual), median(first))
    return latest[-1][0] if all(loss > limit for _, loss in latest) else None


def overflowing(log_history: list[dict], most: int) -> bool:
    """Whether the gradients of the last ``most`` steps were not finite."""
    norms = (entry["grad_norm"] for entry in reversed(log_history) if "grad_norm" in entry)
    latest = list(islice(norms, most))
    return len(latest) == most and not any(map(math.isfinite, latest))


def best_step(log_history: list[dict]) -> int | None:
    """Return the step of the best validation loss, the first of equal ones; None where there is none after training."""
    losses = [(entry["eval_loss"], entry["step"]) for entry in log_history if "eval_loss" in entry and entry["step"]]
    return min(losses)[1] if losses else None


class JsonLines(TrainerCallback):
    """Write each entry of the log as a line of JSON while training goes on; a resumed run continues the file."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args, state, control, **_):
        if state.is_world_process_zero:
            self.path.write_text("".join(_line(entry) for entry in state.log_history), encoding="utf-8")

    def on_log(self, args, state, control, **_):
        if state.is_world_process_zero:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(_line(state.log_history[-1]))


def _line(entry: dict) -> str:
    return json.dumps(entry, sort_keys=True) + "\n"


class Progress(TrainerCallback):
    """A bar with loss and remaining time on a terminal; else a line an epoch. On standard error."""

    def __init__(self, trainer: "FinetuneTrainer"):
        self.trainer, self.bar, self.shown = trainer, None, {}

    def on_train_begin(self, args, state, control, **_):
        self.start, self.first_step = time.monotonic(), state.global_step
        if state.is_world_process_zero and sys.stderr.isatty():
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="fine-tuning", unit="step")

    def on_step_end(self, args, state, control, **_):
        if self.bar:
            self.bar.update()

    def on_log(self, args, state, control, logs, **_):
        self.shown |= {name: f"{logs[key]:.4g}" for name, key in _SHOWN.items() if key in logs}
        if self.bar:
            self.bar.set_postfix(self.shown)
        elif "eval_loss" in logs and state.is_world_process_zero:
            self._line(state)

    def on_epoch_end(self, args, state, control, **_):
        if self.trainer.eval_dataset is None and state.is_world_process_zero and not self.bar:
            self._line(state)

    def on_train_end(self, args, state, control, **_):
        if self.bar:
            self.bar.close()

    def _line(self, state):
        done = state.global_step - self.first_step
        left = (time.monotonic() - self.start) / done * (state.max_steps - state.global_step) if done else None
        losses = ", ".join(f"{name} {value}" for name, value in self.shown.items())
        ahead = f", {left // 60:.0f} min {left % 60:.0f} s left" if left else ""
        _say(f"step {state.global_step}/{state.max_steps}: {losses}{ahead}")


_SHOWN = {"loss": "loss", "validation loss": "eval_loss"}


def _say(line: str) -> None:
    """Tell the terminal, if it is still there, and the log."""
    logger.info(line)
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class FinetuneTrainer(Trainer):
    """Trainer with our batches, learning rates, validation, guards and checkpoints.

    Args:
        settings: The run's `TrainingSettings`.
        marker: What a checkpoint must carry to be resumed; stored in each.
        stop: The signals' wish to stop.
        clips: Names of the training clips, for messages; ``val_clips`` those of the validation.
        encoders: Encodes batches of pixels, where features are not kept.
        features_dtype: What these features are rounded to.
        pad_to_multiple_of: Of the tokens of a training batch.
    """

    def __init__(
        self,
        model,
        args,
        *,
        settings,
        processor,
        train_dataset,
        eval_dataset,
        clips,
        val_clips,
        marker,
        stop,
        encoders=None,
        features_dtype=None,
        pad_to_multiple_of=1,
    ):
        self.settings, self.marker, self.stop, self.clips = settings, marker, stop, clips
        self.val_clips = val_clips
        self.processor = processor
        self.encoders, self.features_dtype = encoders and encoders.to(args.device), features_dtype
        self.pad_to_multiple_of = pad_to_multiple_of
        self._saving: Path | None = None
        self._unchecked: list[tuple[Tensor, list[int]]] = []  # losses of this step and the clips of each
        super().__init__(
            model=model, args=args, train_dataset=train_dataset, eval_dataset=eval_dataset, data_collator=list
        )
        self.model_accepts_loss_kwargs = True  # our forward takes num_items_in_batch
        self.learning_rates = {
            "language_model" if settings.method == "full" else "lora": settings.learning_rate,
            "projectors": settings.projector_learning_rate,
        }
        self.train_batches = self._sampler(
            len(train_dataset),
            settings.seed,
            lengths=train_dataset.lengths if settings.group_by_length else None,
            step_size=settings.batch_size * settings.gradient_accumulation_steps,
        )
        self.steps_per_epoch = -(-len(self.train_batches) // settings.gradient_accumulation_steps)
        self.remove_callback(PrinterCallback)
        for callback in (Rhythm(self), JsonLines(Path(args.output_dir) / "log.jsonl"), Progress(self)):
            self.add_callback(callback)

    # Batches

    def _sampler(self, n: int, seed: int | None, **grouping) -> SharedBatches:
        processes = self.args.process_index, self.args.world_size
        return SharedBatches(n, self.settings.batch_size, *processes, seed, **grouping)

    def get_train_dataloader(self):
        """Return the training batches; not prepared by accelerate, which deals out whole batches."""
        collate = Collate(self.processor, self.pad_to_multiple_of)
        pin = self.args.device.type == "cuda"
        return batches(self.train_dataset, collate, self.train_batches, self.settings.num_workers, pin)

    def _prepare_inputs(self, inputs):
        """Put a batch onto the device; pixels become features here, outside of the autocast around the model."""
        inputs = super()._prepare_inputs(inputs)
        return with_features(inputs, self.encoders, self.features_dtype) if self.encoders else inputs

    # Optimisation

    def create_optimizer(self, model=None):
        """Create AdamW over what is trained, each kind at its learning rate."""
        if self.optimizer is None:
            cls, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            groups = parameter_groups(self.model, self.learning_rates, self.args.weight_decay)
            self.optimizer = cls(groups, **options)
        return self.optimizer

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """Take one forward and backward pass; `log` looks at the loss, as a GPU would have to wait for it here."""
        numbers = inputs.pop("numbers").tolist()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._unchecked.append((loss, numbers))
        return loss

    def log(self, logs, start_time=None):
        """Log, with the learning rate of each kind of parameter, which is checked against the schedule.

        Raises:
            InputError: If a loss is not a finite number, the loss explodes or the gradients are not finite; it comes
                before a checkpoint of this step is saved.
        """
        if "loss" in logs:
            self._check_losses()
            logs |= self._checked_learning_rates(logs["learning_rate"])
        super().log(logs, start_time)
        if "loss" not in logs:
            return
        history, step, ratio = self.state.log_history, self.state.global_step, self.settings.max_loss_ratio
        if overflowing(history, MOST_OVERFLOWS if self.args.fp16 else 1):
            raise self._diverged(f"the norm of the gradients is {logs['grad_norm']}", step, self._clips_of(step))
        if since := exploding_since(history, ratio):
            what = (
                f"the loss rose to more than finetune.max_loss_ratio, {ratio:g}, times what it was, {logs['loss']:.4g},"
            )
            raise self._diverged(what, since, self._clips_of(since))

    def _check_losses(self) -> None:
        unchecked, self._unchecked = self._unchecked, []
        values = torch.stack([loss for loss, _ in unchecked]).tolist() if unchecked else []
        for value, (_, batch) in zip(values, unchecked, strict=True):
            if not math.isfinite(value):
                clips = [self.clips[number] for number in batch if number >= 0]  # the others are stand-ins
                raise self._diverged(f"the loss is {value}", self.state.global_step, clips)

    def _diverged(self, what: str, step: int, clips: list[str]) -> InputError:
        last = newest_checkpoint(Path(self.args.output_dir), self.marker, before=step)
        return InputError(
            f"{what} in step {step}, on {', '.join(clips)}; last good checkpoint: {last or 'none yet'}. "
            "Lower finetune.learning_rate, or look at these clips and their labels"
        )

    def _clips_of(self, step: int) -> list[str]:
        """Return the clips that a step sees, over all processes."""
        n = self.settings.gradient_accumulation_steps
        epoch, step_of_epoch = divmod(step - 1, self.steps_per_epoch)
        batches = islice(self.train_batches.whole(epoch), step_of_epoch * n, (step_of_epoch + 1) * n)
        return [self.clips[number] for batch in batches for number in batch]

    def _checked_learning_rates(self, first_group: float) -> dict[str, float]:
        """Return the rates of the step just taken, from that of the first group."""
        groups = self.optimizer.param_groups
        share = first_group / self.learning_rates[groups[0]["kind"]]  # of the peak, by warm-up and decay
        for group in groups:
            if group["initial_lr"] != self.learning_rates[group["kind"]]:
                raise RuntimeError(
                    f"{group['kind']} are trained at a peak of {group['initial_lr']}, "
                    f"not {self.learning_rates[group['kind']]}"
                )
        now = {group["lr"] / group["initial_lr"] for group in groups}
        if max(now) - min(now) > 1e-9:
            raise RuntimeError(f"the parameter groups are at different points of the schedule: {sorted(now)}")
        return {f"learning_rate_{group['kind']}": share * group["initial_lr"] for group in groups}

    # Validation

    @torch.no_grad()
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        """Return the mean loss over the supervised tokens of the validation set, whatever batches and processes.

        Raises:
            InputError: If it is not a finite number.
        """
        model = self.model_wrapped
        model.eval()
        collate = Collate(self.processor)
        sampler = self._sampler(len(self.eval_dataset), seed=None)
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # loss, tokens
        seen = []
        for batch in batches(self.eval_dataset, collate, sampler, self.settings.num_workers, False):
            numbers = batch.pop("numbers").tolist()
            batch = self._prepare_inputs(batch)
            tokens = (batch["labels"][:, 1:] != IGNORED).sum()
            loss = model(**batch, num_items_in_batch=tokens.clamp(min=1)).loss
            sums += torch.stack([loss.double() * tokens, tokens.double()])
            seen.append((loss, numbers))
        if self.args.world_size > 1:
            torch.distributed.all_reduce(sums)
        mean = (sums[0] / sums[1]).item()
        if not math.isfinite(mean):
            wrong = [n for loss, numbers in seen if not math.isfinite(loss.item()) for n in numbers if n >= 0]
            clips = [self.val_clips[n] for n in gather_object(wrong)]
            raise self._diverged(f"the validation loss is {mean}", self.state.global_step, clips)
        metrics = {f"{metric_key_prefix}_loss": mean}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # Checkpoints

    def _get_output_dir(self, trial) -> str:
        return str(self._saving or self.args.output_dir)

    def _save_checkpoint(self, model, trial):
        """Save ``checkpoint-N`` whole or not at all, its marker last, and delete all but the newest and the best.

        The best is that of `best_step`; a checkpoint is saved wherever the validation loss is taken.
        """
        run_folder = Path(self.args.output_dir)
        name = f"checkpoint-{self.state.global_step}"
        main = self.is_world_process_zero()
        place = replacing_folder(run_folder / name) if main else nullcontext()
        with place as folder:
            self._saving = self._shared(folder)
            try:
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
            finally:
                self._saving = None
            if main:
                for file in (folder / name).iterdir():
                    file.rename(folder / file.name)
                (folder / name).rmdir()
                mark(folder, self.marker)
        if main:
            best = run_folder / f"checkpoint-{best_step(self.state.log_history)}"
            for old in numbered_checkpoints(run_folder)[: -self.settings.save_total_limit]:
                if old == best:
                    continue
                (old / MARKER).unlink(missing_ok=True)  # first: half a checkpoint must not pass for a whole one
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def _shared(self, path: Path | None) -> Path:
        """Tell every process the path that the first one chose."""
        return Path(broadcast_object_list([str(path)])[0]) if self.args.world_size > 1 else path

    def save_adapter(self, folder: Path | None) -> None:
        """Write the adapter, projectors included, into ``folder`` (of the first process); all processes take part."""
        self.save_model(str(self._shared(folder)))

    def save_model(self, output_dir=None, _internal_call=False):
        """Save the adapter; only ZeRO-3, whose parameters are spread out, gathers them first."""
        if self.is_deepspeed_enabled and self.deepspeed.zero_optimization_partition_weights():
            super().save_model(output_dir, _internal_call=True)
        else:
            self._save(output_dir)

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            for unneeded in ("training_args.bin", "README.md", "generation_config.json"):
                (Path(output_dir) / unneeded).unlink(missing_ok=True)


def numbered_checkpoints(run_folder: Path) -> list[Path]:
    """Return the folders ``checkpoint-N``, by N."""
    found = [path for path in run_folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return N of ``checkpoint-N``."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def mark(folder: Path, marker: dict) -> None:
    """Write what a checkpoint or an adapter was made from, and how large each of its files is."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MARKER)
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    write_json(marker | {"bytes": sizes}, folder / MARKER)


def marker_of(folder: Path) -> dict | None:
    """Return what a checkpoint or an adapter was made from; None if it is not whole."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        sizes = marker.pop("bytes")
        whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return None
    return marker if whole else None


def newest_checkpoint(run_folder: Path, marker: dict, before: float = math.inf) -> Path | None:
    """Return the newest checkpoint that carries ``marker``, of a step before ``before``."""
    whole = (path for path in reversed(numbered_checkpoints(run_folder)) if step_of(path) < before)
    return next((path for path in whole if marker_of(path) == marker), None)
