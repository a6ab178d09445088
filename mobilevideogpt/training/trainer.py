"""transformers' Trainer with our batches, learning rates, validation, guards and complete checkpoints."""

import logging
import math
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object, recursively_apply
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_callback import PrinterCallback

from mobilevideogpt.data.dataset import AnnotatedVideos
from mobilevideogpt.data.encoding import encode_batch
from mobilevideogpt.data.prompts import IGNORED
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import replacing_folder
from mobilevideogpt.model.adapter import write_plain_lora_config
from mobilevideogpt.training.batches import Collate, SharedBatches, data_loader
from mobilevideogpt.training.callbacks import (
    FlowCallback,
    GracefulStop,
    JsonLinesCallback,
    LossDisplay,
    TensorBoardHistory,
)
from mobilevideogpt.training.checkpoints import Fingerprint, newest_checkpoint, prune_checkpoints, write_fingerprint
from mobilevideogpt.training.guards import FP16_OVERFLOWS, exploding_since, overflowing
from mobilevideogpt.training.log_history import best_step, mean_training_loss
from mobilevideogpt.training.optimizer import parameter_groups, peak_learning_rates, scheduled_learning_rates
from mobilevideogpt.training.settings import TrainingSettings
from mobilevideogpt.training.stopwatch import Stopwatch

logger = logging.getLogger(__name__)
COPIED_BYTES = 2**30  # of an optimizer's state: more is written before the next step, to save memory


class FinetuneTrainer(Trainer):
    """Trainer of Stage 3.

    Args:
        model: The model, with trainable parameters in float32.
        args: See `arguments.training_arguments`.
        settings: The run's settings.
        processor: Pads batches.
        train_dataset: Samples to learn from.
        eval_dataset: Samples of the validation loss, if there are any.
        clips: Names of the training clips, for messages.
        exercises: Those of the training clips.
        val_clips: Names of the validation clips.
        fingerprint: Stored in each checkpoint.
        stop: Catches signals.
        encoders: Encode batches of pixels, if features are not cached.
        features_dtype: The precision to which these features are rounded.
        pad_to_multiple_of: Of the tokens of a training batch.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        settings: TrainingSettings,
        processor,
        train_dataset: AnnotatedVideos,
        eval_dataset: AnnotatedVideos | None,
        clips: list[str],
        exercises: list[str],
        val_clips: list[str],
        fingerprint: Fingerprint,
        stop: GracefulStop,
        encoders: nn.Module | None = None,
        features_dtype: torch.dtype | None = None,
        pad_to_multiple_of: int = 1,
    ):
        self.settings, self.fingerprint = settings, fingerprint
        self.run_folder = Path(str(args.output_dir))
        self.train_samples, self.val_samples = train_dataset, eval_dataset
        self.clips, self.exercises, self.val_clips = clips, exercises, val_clips
        self.processor = processor
        self.encoders = encoders.to(args.device) if encoders is not None else None
        self.features_dtype = features_dtype
        self.pad_to_multiple_of = pad_to_multiple_of
        self.learning_rates = peak_learning_rates(settings)
        self.stopwatch = Stopwatch()
        self._saving_to: Path | None = None
        self._completing = ThreadPoolExecutor(1)
        self._completion: Future[None] | None = None
        self._copied_state: Any = None  # of the optimizer, for the checkpoint that is being saved
        self._unchecked_losses: list[tuple[Tensor, list[int]]] = []  # losses of this step, and the samples of each
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=list,  # pyright: ignore[reportArgumentType]  # unused, see `get_train_dataloader`
        )
        self.model_accepts_loss_kwargs = True  # our forward takes num_items_in_batch
        if self.accelerator.ddp_handler:
            self.accelerator.ddp_handler.gradient_as_bucket_view = True  # else DDP keeps a copy of all gradients
        self.train_batches = self._sampler(
            len(train_dataset),
            settings.seed,
            lengths=train_dataset.lengths if settings.group_by_length else None,
            step_size=settings.shared * settings.gradient_accumulation_steps,
            kinds=exercises if settings.balance == "exercise" else None,
        )
        self.steps_per_epoch = -(-len(self.train_batches) // settings.gradient_accumulation_steps)
        self._add_callbacks(stop)

    def _add_callbacks(self, stop: GracefulStop) -> None:
        validates = self.val_samples is not None
        self.remove_callback(PrinterCallback)
        self.add_callback(
            FlowCallback(
                batches=self.train_batches,
                steps_per_epoch=self.steps_per_epoch,
                save_steps=self.settings.save_steps,
                patience=self.settings.early_stopping_patience,
                validates=validates,
                stop=stop,
            )
        )
        self.add_callback(JsonLinesCallback(self.run_folder / "log.jsonl"))
        self.add_callback(TensorBoardHistory(self.run_folder / "tensorboard", self.callback_handler.callbacks))
        self.add_callback(LossDisplay(validates))
        self.add_callback(self.stopwatch)

    # Batches

    def _sampler(self, n: int, seed: int | None, **grouping) -> SharedBatches:
        processes = self.args.process_index, self.args.world_size
        return SharedBatches(n, self.settings.shared, *processes, seed, **grouping)

    def get_train_dataloader(self):
        """Return the training batches, without accelerate's sharding, which would distribute whole batches."""
        collate = Collate(self.processor, self.pad_to_multiple_of)
        pin = self.args.device.type == "cuda"
        return data_loader(self.train_samples, collate, self.train_batches, self.settings.num_workers, pin)

    def _prepare_inputs(self, inputs):
        """Move a batch to the device and encode pixels there, outside of the autocast around the model."""
        inputs = super()._prepare_inputs(inputs)
        if self.encoders is None or self.features_dtype is None:
            return inputs
        return encode_batch(inputs, self.encoders, self.features_dtype)

    # Optimisation

    def create_optimizer(self, model=None):
        """Create AdamW over the trainable parameters, each kind at its learning rate."""
        if self.optimizer is None:
            cls, options = self.get_optimizer_cls_and_kwargs(self.args)
            assert isinstance(self.model, nn.Module)
            groups = parameter_groups(self.model, self.learning_rates, self.args.weight_decay)
            self.optimizer = cls(groups, **options)
            self._groups = [{**group, "params": None} for group in self.optimizer.param_groups]
        return self.optimizer

    def floating_point_ops(self, inputs) -> int:
        """Return the Trainer's estimate, with the parameters counted once: to visit all modules takes 6 ms."""
        return 6 * inputs["input_ids"].numel() * self._counted_parameters

    @cached_property
    def _counted_parameters(self) -> int:
        model: Any = self.model
        return model.num_parameters(exclude_embeddings=True)

    def _clip_grad_norm(self, model):
        """Clip the gradients, of which only the trainable parameters have any; return their norm."""
        return self.accelerator.clip_grad_norm_(self._trainable, self.args.max_grad_norm)

    @cached_property
    def _trainable(self) -> list[nn.Parameter]:
        assert isinstance(self.model, nn.Module)
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """Run one forward and backward pass. `log` checks the loss later; here, that would wait for the GPU."""
        numbers = inputs.pop("numbers").tolist()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._unchecked_losses.append((loss, numbers))
        return loss

    def log(self, logs, start_time=None):
        """Log, with the learning rate of each kind of parameter, and check losses and gradients.

        Raises:
            InputError: If a loss or the gradients are non-finite, or the loss explodes. No checkpoint of this step is
                saved then.
        """
        if "loss" in logs:
            self._check_losses()
            groups = self.optimizer.param_groups
            logs |= scheduled_learning_rates(groups, self.learning_rates, logs["learning_rate"])
        if "train_loss" in logs:  # the Trainer's own leaves out the steps before a resumption
            logs["train_loss"] = mean_training_loss(self.state.log_history)
        super().log(logs, start_time)
        if "loss" in logs:
            self._check_divergence(logs)

    def _check_losses(self) -> None:
        unchecked, self._unchecked_losses = self._unchecked_losses, []
        values = torch.stack([loss for loss, _ in unchecked]).tolist() if unchecked else []
        for value, (_, batch) in zip(values, unchecked, strict=True):
            if not math.isfinite(value):
                clips = [self.clips[number] for number in batch if number >= 0]  # the others are padding samples
                raise self._diverged(f"the loss is {value}", self.state.global_step, clips)

    def _check_divergence(self, logs: dict) -> None:
        history, step, ratio = self.state.log_history, self.state.global_step, self.settings.max_loss_ratio
        if overflowing(history, FP16_OVERFLOWS if self.args.fp16 else 1):
            raise self._diverged(f"the norm of the gradients is {logs['grad_norm']}", step, self._clips_of(step))
        if since := exploding_since(history, ratio):
            rise = (
                f"the loss rose to {logs['loss']:.4g}, more than finetune.max_loss_ratio, {ratio:g}, times its median,"
            )
            raise self._diverged(rise, since, self._clips_of(since))

    def _diverged(self, what: str, step: int, clips: list[str]) -> InputError:
        self.finish_saving()
        last = newest_checkpoint(self.run_folder, self.fingerprint, before=step)
        return InputError(
            f"{what} in step {step}, on {', '.join(clips)}; last good checkpoint: {last or 'none yet'}. "
            "Lower finetune.learning_rate, or look at these clips and their labels"
        )

    def _clips_of(self, step: int) -> list[str]:
        """Return the clips of a step, over all processes."""
        n = self.settings.gradient_accumulation_steps
        epoch, step_of_epoch = divmod(step - 1, self.steps_per_epoch)
        batches = islice(self.train_batches.whole(epoch), step_of_epoch * n, (step_of_epoch + 1) * n)
        return [self.clips[number] for batch in batches for number in batch]

    # Validation

    @cached_property
    def _val_batches(self) -> DataLoader:
        assert self.val_samples is not None
        sampler = self._sampler(len(self.val_samples), seed=None)
        return data_loader(self.val_samples, Collate(self.processor), sampler, self.settings.num_workers, False)

    @torch.no_grad()
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        """Return the mean loss over the supervised tokens of the validation set, for any batches and processes.

        Raises:
            InputError: If it is non-finite.
        """
        model: Any = self.model_wrapped
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # loss, tokens
        losses: list[tuple[Tensor, list[int]]] = []
        for batch in self._val_batches:
            numbers = batch.pop("numbers").tolist()
            batch = self._prepare_inputs(batch)
            tokens = (batch["labels"][:, 1:] != IGNORED).sum()
            loss = model(**batch, num_items_in_batch=tokens.clamp(min=1)).loss
            sums += torch.stack([loss.double() * tokens, tokens.double()])
            losses.append((loss, numbers))
        if self.args.world_size > 1:
            torch.distributed.all_reduce(sums)
        mean = (sums[0] / sums[1]).item()
        if not math.isfinite(mean):
            wrong = [n for loss, numbers in losses if not math.isfinite(loss.item()) for n in numbers if n >= 0]
            clips = [self.val_clips[n] for n in gather_object(wrong)]
            raise self._diverged(f"the validation loss is {mean}", self.state.global_step, clips)
        metrics = {f"{metric_key_prefix}_loss": mean}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # Checkpoints

    def _get_output_dir(self, trial) -> str:
        return str(self._saving_to or self.run_folder)

    def _save_checkpoint(self, model, trial):
        """Save ``checkpoint-N`` whole or not at all, its fingerprint last; delete all but the newest and the best.

        The best is that of `best_step`: a checkpoint is saved wherever the validation loss is computed. The next steps
        run while a thread writes the state of the optimizer, hashes the files and flushes them to the disk; see
        `finish_saving`.
        """
        self.finish_saving()
        torch.serialization.set_crc32_options(False)  # the fingerprint has SHA-256, which restoring compares
        name = f"checkpoint-{self.state.global_step}"
        with ExitStack() as saving:
            main = self.is_world_process_zero()
            folder = saving.enter_context(replacing_folder(self.run_folder / name)) if main else None
            self._saving_to = self._broadcast(folder)
            try:
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
            finally:
                self._saving_to = None
            if folder:
                for file in (folder / name).iterdir():
                    file.rename(folder / file.name)
                (folder / name).rmdir()
                best = best_step(self.state.log_history)
                state, self._copied_state = self._copied_state, None
                self._completion = self._completing.submit(self._complete, saving.pop_all(), folder, state, best)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save both; the state of a small optimizer is copied, for `_complete` to write it."""
        if self.is_deepspeed_enabled or not self.args.should_save:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        optimizer: Any = self.optimizer
        scheduler: Any = self.lr_scheduler
        state = optimizer.state_dict()
        moments = [tensor for of_parameter in state["state"].values() for tensor in of_parameter.values()]
        if sum(tensor.nbytes for tensor in moments) > COPIED_BYTES:
            torch.save(state, Path(output_dir, OPTIMIZER_NAME))
        else:
            self._copied_state = recursively_apply(lambda tensor: tensor.to("cpu", copy=True), state)
        torch.save(scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _complete(self, saving: ExitStack, folder: Path, state: Any, best: int | None) -> None:
        """Complete a checkpoint in its temporary folder, fingerprint last; put it in its place, delete older ones."""
        with saving:
            if state:
                torch.save(state, folder / OPTIMIZER_NAME)
            write_fingerprint(folder, self.fingerprint)
        prune_checkpoints(self.run_folder, self.settings.save_total_limit, best)

    def finish_saving(self) -> None:
        """Wait until the last checkpoint is complete, in its place.

        Raises:
            OSError: If it cannot be written, for example as the disk is full.
        """
        completion, self._completion = self._completion, None
        if completion:
            completion.result()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load both; DeepSpeed gives each group the settings of the first from a universal checkpoint of ZeRO-3."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint and self.is_deepspeed_enabled:
            scheduler: Any = self.lr_scheduler
            rates = scheduler.get_last_lr()
            for group, own, rate in zip(self.optimizer.param_groups, self._groups, rates, strict=True):
                group |= own | {"params": group["params"], "initial_lr": own["lr"], "lr": rate}

    def _broadcast(self, path: Path | None) -> Path:
        """Return the first process's path, in every process."""
        return Path(broadcast_object_list([str(path)])[0]) if self.args.world_size > 1 else Path(str(path))

    def save_adapter(self, folder: Path | None) -> None:
        """Write the adapter, projectors included, into the first process's ``folder``; all processes take part."""
        self.save_model(str(self._broadcast(folder)))

    def save_model(self, output_dir=None, _internal_call=False):
        """Save the adapter; only under ZeRO-3, which partitions the parameters, they are gathered first."""
        engine: Any = self.deepspeed
        if self.is_deepspeed_enabled and engine.zero_optimization_partition_weights():
            super().save_model(output_dir, _internal_call=True)
        else:
            self._save(output_dir)

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            for unneeded in ("training_args.bin", "README.md", "generation_config.json"):
                (Path(output_dir or self.run_folder) / unneeded).unlink(missing_ok=True)
            write_plain_lora_config(output_dir or self.run_folder)
