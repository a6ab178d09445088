"""What a fine-tuning is asked to do, and its translation for transformers' Trainer and DeepSpeed."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.settings import TrainingSettings

if TYPE_CHECKING:
    from transformers import TrainingArguments

logger = logging.getLogger(__name__)


def for_this_gpu(settings: TrainingSettings) -> TrainingSettings:
    """Return the settings with fp16, under a scaled loss, in bf16's place where the GPU does not compute in bf16.

    The digest is that of the settings as they were: a move to another GPU retrains nothing.
    """
    import torch

    if settings.precision == "bf16" and torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        name = torch.cuda.get_device_name()
        logger.warning("%s does not compute in bf16: training in fp16, with a scaled loss", name)
        return replace(settings, precision="fp16")
    return settings


def missing_reporter(report_to: list[str]) -> str | None:
    """Return what to do about the first library of ``report_to`` that is not installed; None if all are."""
    missing = next((name for name in report_to if importlib.util.find_spec(name) is None), None)
    return missing and f"finetune.report_to: {missing} is not installed; pip install {missing}, or leave it out"


# Environment variable: the workflow's whole configuration as JSON, for the run's record. No argument of the script, as
# most of it shapes no adapter.
CONFIGURATION = "MOBILEVIDEOGPT_CONFIGURATION"


@dataclass(frozen=True)
class Launch:
    """How a fine-tuning runs on this machine: ``processes``, and the ZeRO configuration's name or None."""

    processes: int
    deepspeed: str | None


def plan_launch(settings: TrainingSettings) -> Launch:
    """Resolve what the settings leave to the machine: the number of processes and whether DeepSpeed is used.

    Raises:
        InputError: If DeepSpeed is asked for and cannot be used.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    processes = settings.processes or max(n for n in range(1, max(gpus, 1) + 1) if settings.shared % n == 0)
    if "WORLD_SIZE" in os.environ:  # they are running already, on several nodes perhaps
        processes = int(os.environ["WORLD_SIZE"])
        if settings.processes not in (None, processes) or settings.shared % processes:
            raise InputError(
                f"{processes} processes were started, but finetune.processes is {settings.processes or 'null'}, and "
                f"they share {settings.shared} clips; start as many, or choose a multiple"
            )
    elif gpus and processes > gpus:
        raise InputError(f"finetune.processes: {processes} processes, but there are {gpus} GPUs; choose at most {gpus}")
    elif processes < gpus:
        logger.warning("training on %d of %d GPUs, which share %d clips", processes, gpus, settings.shared)
    alone = processes == 1  # ZeRO-2 would share nothing, and keep a copy of what is trained
    if settings.deepspeed == "none" or (settings.deepspeed == "auto" and (alone or not gpus)):
        return Launch(processes, None)
    explicit = settings.deepspeed != "auto"
    if settings.precision == "fp16":
        obstacle = "it would keep the trained weights in fp16"
    else:
        try:
            importlib.import_module("deepspeed")
            return Launch(processes, settings.deepspeed if explicit else "zero2")
        except Exception as error:  # DeepSpeed raises its own kinds where a CUDA toolkit or a compiler is missing
            obstacle = f"it cannot be imported here ({type(error).__name__}: {error})"
    if explicit:
        raise InputError(f"finetune.deepspeed: {settings.deepspeed}, but {obstacle}; set it to auto or none")
    logger.warning("training without DeepSpeed: %s", obstacle)
    return Launch(processes, None)


def faster_ways(settings: TrainingSettings, launch: Launch, device_type: str) -> tuple[bool, bool]:
    """Whether `kernels.fuse` and whether `kernels.record_passes` serve such a training.

    ZeRO-3 gathers a weight when its own module is called, and only then. Recorded passes are one process's, without
    recomputation, and without rounding by autocast, which weights that are trained or of 4 bits need.
    """
    fused = device_type == "cuda" and "zero3" not in (launch.deepspeed or "")
    plain = settings.method == "lora" and settings.quantization == "none" and not settings.gradient_checkpointing
    return fused, fused and plain and launch.processes == 1


def training_arguments(
    settings: TrainingSettings, run_folder: Path, launch: Launch, deepspeed_configs: Path, evaluate_first: bool
) -> TrainingArguments:
    """Translate the settings for transformers' Trainer.

    Evaluation and checkpoints are triggered by our own callback, so their strategies are off here. bf16 is our own
    autocast around the model (see `trainer.autocast`); fp16 is the Trainer's, which scales the loss.
    """
    import torch
    from transformers import TrainingArguments

    gpu = torch.cuda.is_available()
    if settings.precision == "fp16" and not gpu:
        raise InputError("finetune.precision: fp16 needs a GPU; choose bf16 or fp32")
    if obstacle := missing_reporter(settings.report_to):
        raise InputError(obstacle)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run_folder / "tensorboard")
    os.environ.setdefault("WANDB_DIR", str(run_folder))
    config = None
    if launch.deepspeed:
        config = json.loads((deepspeed_configs / f"{launch.deepspeed}.json").read_text())
        if not gpu:  # pinned memory and streams are a GPU's
            config["zero_optimization"]["overlap_comm"] = False
            for offload in ("offload_optimizer", "offload_param"):
                config["zero_optimization"].get(offload, {}).pop("pin_memory", None)
    renamed = any(f.name == "activation_checkpointing" for f in fields(TrainingArguments))  # since transformers 5.2x
    checkpointing = "activation_checkpointing" if renamed else "gradient_checkpointing"
    arguments = TrainingArguments(
        output_dir=str(run_folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size // launch.processes,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=settings.warmup_ratio,  # below 1: a share of the steps
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        fp16=settings.precision == "fp16",
        **{checkpointing: settings.gradient_checkpointing, f"{checkpointing}_kwargs": {"use_reentrant": False}},
        use_cpu=not gpu,
        ddp_backend="gloo" if launch.processes > 1 and not gpu else None,
        ddp_find_unused_parameters=False,
        deepspeed=config,
        eval_on_start=evaluate_first,
        eval_strategy="no",
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not a number stops the run instead
        disable_tqdm=True,
        log_level="warning",
        report_to=settings.report_to or "none",
        run_name=run_folder.name,
        dataloader_num_workers=settings.num_workers,
        remove_unused_columns=False,
        label_names=["labels"],
        seed=settings.seed,
        data_seed=settings.seed,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process, one GPU: never torch's DataParallel
    return arguments
