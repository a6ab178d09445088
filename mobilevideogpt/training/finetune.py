"""A fine-tuning from start to adapter: one at a time on its folder, resumed where it stopped, never stale."""

import json
import logging
import math
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import filelock
import torch
import yaml
from safetensors.torch import load_file
from transformers import set_seed

from mobilevideogpt.data.dataset import AnnotatedVideos
from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, replacing_folder, write_json, write_text
from mobilevideogpt.model.adapter import ADAPTER_FILES, WHOLE_FILES, add_lora, nf4, trained_tensors
from mobilevideogpt.model.configuration import DTYPES
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration, load_encoders
from mobilevideogpt.training.arguments import (
    CONFIGURATION,
    Launch,
    TrainingSettings,
    faster_ways,
    for_this_gpu,
    plan_launch,
    training_arguments,
)
from mobilevideogpt.training.batches import recorded_multiple
from mobilevideogpt.training.cuda_graphs import can_be_recorded, fuse, record_passes
from mobilevideogpt.training.launch import leave_out_broken_deepspeed, let_memory_grow, prepare_deepspeed
from mobilevideogpt.training.trainer import (
    FinetuneTrainer,
    Stop,
    autocast,
    best_step,
    kind_of,
    mark,
    marker_of,
    newest_checkpoint,
    numbered_checkpoints,
    out_of_patience,
    step_of,
)

logger = logging.getLogger(__name__)

RECORD = "train.json"  # in the adapter's folder: what its training returned
FULL_BELOW = 64 * 2**20  # bytes; no checkpoint of the 0.5B model fits
STEPS_TO_MOVE = 3  # LoRA's B starts at zero, so A gets its first gradient in the second step with a learning rate


def finetune(
    settings: TrainingSettings,
    *,
    base: str | Path,
    train: list[dict],
    val: list[dict],
    features: dict[str, str],
    store: FeatureStore,
    run_folder: str | Path,
    digest: str,
    digests: dict[str, str] | None = None,
    video_encoder: str | Path | None = None,
    image_encoder: str | Path | None = None,
    deepspeed_configs: str | Path = "config",
) -> dict:
    """Fine-tune the language model, by LoRA or whole, and both projectors of ``base`` on cached features.

    What was learned is written to ``run_folder/adapter`` (see `model.adapter.load_finetuned`).

    Where there is a validation, ``adapter`` holds the epoch of the best loss or the last one (``settings.keep``), and
    the other lies beside it as ``adapter-last`` or ``adapter-best``.

    A finished training of the same digest is not repeated, an interrupted one resumed; checkpoints of another digest go
    to ``superseded/`` and the adapter that was there to ``previous/``. SIGINT and SIGTERM save a checkpoint first.
    Every process of a distributed training calls this; only the first one writes.

    Args:
        train: Annotation records to learn from; ``val`` those of the validation loss, which may be empty.
        features: Key in ``store`` of each clip's features, by the records' ``video``.
        digest: Of all that shapes the adapter; ``digests`` of its parts, for the record.
        deepspeed_configs: Folder of zero2.json and so on.

    Returns:
        What train.json holds. What differs from run to run stands under ``this_run``.

    Raises:
        InputError: If the folder is in use, the data is empty, or the loss stops being a number.
        SystemExit: 128 plus the signal's number, after a signal.
    """
    if not train:
        raise InputError("there is nothing to train on: the training split is empty; check annotations.split")
    run_folder = Path(run_folder)
    first = int(os.environ.get("RANK", 0)) == 0
    with Stop() as stop, locked(run_folder) if first else nullcontext():
        if record := finished(run_folder, digest, settings.keep):
            logger.info("%s: already trained (digest %s)", run_folder / "adapter", digest[:12])
            return record
        if "zero3" in settings.deepspeed:
            let_memory_grow()
        settings = for_this_gpu(settings)
        launch = plan_launch(settings)
        marker = {"digest": digest, "processes": launch.processes, "deepspeed": launch.deepspeed}
        if first:
            clear_away(run_folder, marker)
        if launch.deepspeed:
            prepare_deepspeed()
        else:
            leave_out_broken_deepspeed()
        with saying_if_the_disk_is_full(run_folder, marker):
            return _Run(settings, launch, run_folder, marker, digests or {}, stop, Path(deepspeed_configs)).train(
                base, video_encoder, image_encoder, train, val, features, store
            )


class _Run:
    """One call of `finetune` that trains."""

    def __init__(self, settings, launch: Launch, run_folder, marker, digests, stop, deepspeed_configs):
        self.settings, self.launch, self.run_folder, self.digests = settings, launch, run_folder, digests
        self.marker, self.stop, self.deepspeed_configs = marker, stop, deepspeed_configs

    def train(self, base, video_encoder, image_encoder, train, val, features, store) -> dict:
        started = time.monotonic()
        settings = self.settings
        checkpoint = newest_checkpoint(self.run_folder, self.marker)
        uncached = isinstance(store, UncachedFeatures)
        encoders = load_encoders(ModelPaths(base, video_encoder, image_encoder)) if uncached else None
        set_seed(settings.seed)
        model = load_for_training(settings, base, video_encoder, image_encoder)
        first = int(os.environ.get("RANK", 0)) == 0
        before = {name: tensor.clone() for name, tensor in trained_tensors(model).items()} if first else {}
        parameters = parameter_counts(model)
        # Only now, as transformers would spread a model loaded after ZeRO-3's arguments over the processes.
        arguments = training_arguments(
            settings, self.run_folder, self.launch, self.deepspeed_configs, bool(val) and not checkpoint
        )
        if arguments.world_size != self.launch.processes:
            raise InputError(
                f"finetune.processes: {self.launch.processes} are planned, but {arguments.world_size} were started"
            )
        if settings.precision == "bf16":
            autocast(model, arguments.device.type)
        fused, recorded = faster_ways(settings, self.launch, arguments.device.type)
        recorded = recorded and can_be_recorded(model)
        if fused:
            fuse(model)
        processor = MobileVideoGPTProcessor.from_pretrained(base)

        def dataset(records):
            return AnnotatedVideos(records, features, store, processor, settings.max_text_tokens) if records else None

        train_dataset, eval_dataset = dataset(train), dataset(val)
        multiple = 1
        if recorded:
            longest = max(train_dataset.lengths)
            multiple = recorded_multiple(longest - processor.num_visual_tokens)
            longest = multiple * math.ceil(longest / multiple)
            record_passes(model, largest=(arguments.per_device_train_batch_size, longest))
        trainer = FinetuneTrainer(
            model,
            arguments,
            settings=settings,
            processor=processor,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            clips=[record["video"] for record in train],
            val_clips=[record["video"] for record in val],
            marker=self.marker,
            stop=self.stop,
            encoders=encoders,
            features_dtype=store.dtype if uncached else None,
            pad_to_multiple_of=multiple,
        )
        if checkpoint:
            logger.info("%s: going on from %s", self.run_folder, checkpoint.name)
            state = read_json(checkpoint / "trainer_state.json")
            if out_of_patience(state["log_history"], settings.early_stopping_patience):
                arguments.num_train_epochs = state["epoch"]  # it had stopped; nothing is left to train
        self.stop.at_a_step_end = True
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        state = trainer.state
        if self.stop.signal and state.global_step < state.max_steps:
            logger.warning("%s: stopped at step %d of %d", self.run_folder, state.global_step, state.max_steps)
            raise SystemExit(128 + self.stop.signal)
        record = {
            "run": self.run_folder.name,
            "digest": self.marker["digest"],
            "digests": self.digests,
            "base": str(base),
            "adapter": str(self.run_folder / "adapter"),
            "epochs": state.epoch,
            "steps": state.global_step,
            "resumed_from": step_of(checkpoint) if checkpoint else None,
            "losses": losses(state.log_history),
            "keep": settings.keep,
            **self._adapters(state),
            "learning_rates": learning_rates(state.log_history, trainer.learning_rates),
            "clips": {"train": len(train), "val": len(val)},
            "truncated_texts": {"train": train_dataset.truncated, "val": eval_dataset.truncated if val else 0},
            "parameters": parameters,
            "precision": settings.precision,
            "batch": {
                "effective": settings.effective_batch_size,
                "micro": arguments.per_device_train_batch_size,
                "accumulation": settings.gradient_accumulation_steps,
                "gradient_checkpointing": settings.gradient_checkpointing,
            },
            "deepspeed": self.launch.deepspeed,
            "world_size": arguments.world_size,
            "versions": versions(),
            "git_revision": git_revision(),
            "logs": {
                "steps": str(self.run_folder / "log.jsonl"),
                "state": str(self.run_folder / "trainer_state.json"),
                "tensorboard": str(self.run_folder / "tensorboard") if "tensorboard" in settings.report_to else None,
            },
            "this_run": {
                "seconds": round(time.monotonic() - started, 1),
                "peak_memory_bytes": peak_memory_bytes(),
                "device": device_name(),
                "host": socket.gethostname(),
            },
        }
        if trainer.is_world_process_zero():
            self._describe(state, base, video_encoder, image_encoder)
        self._write_adapters(trainer, processor, before, record)
        return record

    def _adapters(self, state) -> dict:
        """Return which adapter is ``kept`` as ``adapter``, and path, step, epoch and validation loss of each."""
        at = {entry["step"]: entry for entry in state.log_history if "eval_loss" in entry}
        steps = {"last": state.global_step}
        if best := best_step(state.log_history):
            if marker_of(self.run_folder / f"checkpoint-{best}") == self.marker:
                steps["best"] = best
            else:
                logger.warning("%s: checkpoint-%d, the best, is not whole; the last is kept", self.run_folder, best)
            if at[best]["eval_loss"] >= at[0]["eval_loss"]:
                logger.warning("%s: the validation loss never fell below that before training", self.run_folder)
        kept = self.settings.keep if self.settings.keep in steps else "last"
        return {
            "kept": kept,
            "adapters": {
                which: {
                    "path": str(self.run_folder / ("adapter" if which == kept else f"adapter-{which}")),
                    "step": step,
                    "epoch": at.get(step, {}).get("epoch", state.epoch),
                    "val_loss": at.get(step, {}).get("eval_loss"),
                }
                for which, step in steps.items()
            },
        }

    def _describe(self, state, base, video_encoder, image_encoder):
        state.save_to_json(str(self.run_folder / "trainer_state.json"))
        model = {"base": base, "video_encoder": video_encoder, "image_encoder": image_encoder}
        resolved = json.loads(os.environ.get(CONFIGURATION, "{}")) | {
            "run": self.run_folder.name,
            "model": {name: path and str(path) for name, path in model.items()},
            "finetune": asdict(self.settings),
            "resolved": {"processes": self.launch.processes, "deepspeed": self.launch.deepspeed},
        }
        write_text(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), self.run_folder / "config.yaml")

    def _write_adapters(self, trainer, processor, before, record):
        """Write ``adapter`` and the other one; ``adapter`` comes last, as it says that all is done."""
        if not trainer.is_world_process_zero():
            trainer.save_adapter(None)  # all take part where the parameters are spread out
            return
        files = WHOLE_FILES if self.settings.method == "full" else ADAPTER_FILES
        for which in ("best", "last"):
            shutil.rmtree(self.run_folder / f"adapter-{which}", ignore_errors=True)
        for which, adapter in sorted(record["adapters"].items(), key=lambda item: item[0] == record["kept"]):
            previous = self.run_folder / "previous" if which == record["kept"] else None
            with replacing_folder(adapter["path"], previous) as folder:
                if which == "best":
                    for name in files:
                        shutil.copyfile(self.run_folder / f"checkpoint-{adapter['step']}" / name, folder / name)
                else:
                    trainer.save_adapter(folder)
                    self._check_that_all_moved(trainer, before, load_file(folder / files[-1]))
                processor.save_pretrained(folder)
                write_json(record, folder / RECORD)
                mark(folder, self.marker)

    def _check_that_all_moved(self, trainer, before, after):
        stuck = unmoved(before, after)
        steps_with_a_rate = sum(entry.get("learning_rate", 0) > 0 for entry in trainer.state.log_history)
        if stuck and steps_with_a_rate >= STEPS_TO_MOVE:
            listed = ", ".join(stuck[:5])
            raise InputError(
                f"{len(stuck)} trainable parameters did not move in training: {listed}; "
                "raise finetune.learning_rate or finetune.projector_learning_rate, if it is very small"
            )


def load_for_training(settings: TrainingSettings, base, video_encoder=None, image_encoder=None):
    """Load the base with both projectors and, by ``method``, LoRA or the language model trainable in float32.

    What is frozen has the chosen precision. The encoders are dropped: training reads what they said of each clip.
    """
    full = settings.method == "full"
    dtype = DTYPES["fp32" if full else settings.precision]
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"  # of this process; quantized weights are packed there
    quantized = nf4(dtype, gpu if torch.cuda.is_available() else "cpu") if settings.quantization == "nf4" else {}
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(
        base, video_encoder=video_encoder, image_encoder=image_encoder, dtype=dtype, **quantized
    )
    model.model.vision_tower = None
    model.model.image_vision_tower = None
    if full:
        return model
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # validation would pack a quantized weight for inference
            module.support_avx512bf16_for_cpu = False
    return add_lora(model, r=settings.lora_r, lora_alpha=settings.lora_alpha, lora_dropout=settings.lora_dropout)


@contextmanager
def locked(run_folder: Path) -> Iterator[None]:
    """Hold the run's lock; the operating system releases it however the process ends.

    Raises:
        InputError: If another process holds it; the message names it.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    holder = run_folder / ".lock-holder.json"
    try:
        with filelock.FileLock(run_folder / ".lock", timeout=0):
            write_json({"pid": os.getpid(), "host": socket.gethostname()}, holder)
            yield
    except filelock.Timeout:
        other = json.loads(holder.read_text()) if holder.exists() else {"pid": "?", "host": "?"}
        raise InputError(
            f"{run_folder}: process {other['pid']} on {other['host']} is training here; wait for it or stop it"
        ) from None


@contextmanager
def saying_if_the_disk_is_full(run_folder: Path, marker: dict) -> Iterator[None]:
    """Turn the many errors that a full disk causes into one message."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if shutil.disk_usage(run_folder).free >= FULL_BELOW:
            raise
        last = newest_checkpoint(run_folder, marker)
        raise InputError(
            f"{run_folder}: the disk is full ({error}); free some space and run again, which goes on from "
            f"{last.name if last else 'the beginning'}"
        ) from error


def finished(run_folder: str | Path, digest: str, keep: str) -> dict | None:
    """Return what a finished training of this digest returned, if the adapter to ``keep`` is still there."""
    adapter = Path(run_folder) / "adapter"
    if (marker_of(adapter) or {}).get("digest") != digest:
        return None
    record = read_json(adapter / RECORD)
    return record if record["keep"] == keep else None


def clear_away(run_folder: Path, marker: dict) -> None:
    """Move checkpoints that cannot be resumed into ``superseded/``, and delete what a kill left half-written."""
    for remains in [*run_folder.glob(".checkpoint-*"), *run_folder.glob(".adapter-*")]:
        logger.warning("%s: half-written when a run was killed; deleted", remains)
        shutil.rmtree(remains)
    for checkpoint in numbered_checkpoints(run_folder):
        other = marker_of(checkpoint)
        if other == marker:
            continue
        if other is None:
            name, reason = "incomplete", "is not whole"
        elif other["digest"] != marker["digest"]:
            name, reason = other["digest"][:12], "was made from other data, settings or code"
        else:
            name, reason = other["digest"][:12], "was made by another number of processes or another DeepSpeed stage"
        place = run_folder / "superseded" / name / checkpoint.name
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.rename(place)
        logger.warning("%s %s; not resumed, moved to %s, which may be deleted", checkpoint, reason, place)


def unmoved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of saved tensors that are missing, or exactly as they were before training."""
    return [name for name, tensor in before.items() if name not in after or torch.equal(tensor.cpu(), after[name])]


def parameter_counts(model) -> dict[str, int]:
    """Count parameters: trainable ones by kind, and the frozen."""
    counts = {"lora": 0, "language_model": 0, "projectors": 0, "frozen": 0}
    for name, parameter in model.named_parameters():
        packed = getattr(parameter, "quant_state", None)  # of 4 bits, two a byte
        shape = packed.shape if packed else parameter.shape
        counts[kind_of(name) if parameter.requires_grad else "frozen"] += shape.numel()
    return counts


def losses(log_history: list[dict]) -> dict[str, float | None]:
    """Pick the first and last training and validation losses and the best validation loss from the log."""
    train = [entry["loss"] for entry in log_history if "loss" in entry] or [None]
    val = [entry["eval_loss"] for entry in log_history if "eval_loss" in entry]
    return {
        "train_first": train[0],
        "train_last": train[-1],
        "val_first": val[0] if val else None,
        "val_last": val[-1] if val else None,
        "val_best": min(val) if val else None,
    }


def learning_rates(log_history: list[dict], peaks: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return each kind's learning rate in step 1 (0 where there is a warm-up) and its peak."""
    step_1 = next((entry for entry in log_history if "loss" in entry), {})
    return {kind: {"step_1": step_1.get(f"learning_rate_{kind}"), "peak": peak} for kind, peak in peaks.items()}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that training uses."""
    found = {"python": platform.python_version(), "cuda": torch.version.cuda or "none"}
    for name in ("torch", "transformers", "peft", "accelerate", "deepspeed", "triton", "liger-kernel", "bitsandbytes"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def git_revision() -> str | None:
    """Return the commit of the code, ``-dirty`` if files differ from it; None outside a clone or without git."""
    where = Path(__file__).parent
    if not shutil.which("git"):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def peak_memory_bytes() -> int:
    """Return the most GPU memory that torch reserved in this process, or without a GPU the most main memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    status = Path("/proc/self/status")  # on Linux getrusage starts from the peak of the process that started this one
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def device_name() -> str:
    """Return the name of the GPU, or of the processor's architecture."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})"
