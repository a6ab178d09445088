"""The settings, translated into arguments of transformers' Trainer and into DeepSpeed's configuration."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.plan import Launch
from mobilevideogpt.training.settings import TrainingSettings

if TYPE_CHECKING:
    from transformers import TrainingArguments


def missing_reporter(report_to: list[str]) -> str | None:
    """Return an error message for the first library of ``report_to`` that is not installed; None if all are."""
    missing = next((name for name in report_to if importlib.util.find_spec(name) is None), None)
    return missing and f"finetune.report_to: {missing} is not installed; pip install {missing}, or leave it out"


def training_arguments(
    settings: TrainingSettings,
    run_folder: Path,
    launch: Launch,
    deepspeed_configs: Path,
    *,
    evaluate_first: bool,
    load_universal: bool = False,
) -> TrainingArguments:
    """Translate the settings for transformers' Trainer.

    The strategies of evaluation and saving are off, as `callbacks.FlowCallback` decides both. bf16 is an autocast
    around the model (see `model_setup.autocast`); fp16 is the Trainer's, which scales the loss.

    Args:
        settings: With numbers.
        run_folder: The run's folder.
        launch: The processes, and DeepSpeed.
        deepspeed_configs: Folder of zero2.json and so on.
        evaluate_first: Whether the validation loss is computed before the first step.
        load_universal: Whether DeepSpeed resumes a universal checkpoint, see `universal.write_universal`.

    Raises:
        InputError: If the settings need a GPU or a library that is missing.
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
    renamed = any(f.name == "activation_checkpointing" for f in fields(TrainingArguments))  # since transformers 5.2x
    checkpointing = "activation_checkpointing" if renamed else "gradient_checkpointing"
    arguments = TrainingArguments(
        output_dir=str(run_folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.micro_batch(launch.processes),
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
        ddp_broadcast_buffers=False,  # they are constants
        deepspeed=_deepspeed_config(launch, deepspeed_configs, gpu, load_universal),
        eval_on_start=evaluate_first,
        eval_strategy="no",
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,  # a non-finite loss ends the run
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
        arguments._n_gpu = 1  # one GPU for each process; never torch's DataParallel
    return arguments


def _deepspeed_config(launch: Launch, folder: Path, gpu: bool, load_universal: bool) -> dict | None:
    if not launch.deepspeed:
        return None
    config = json.loads((folder / f"{launch.deepspeed}.json").read_text(encoding="utf-8"))
    config["checkpoint"] = {"load_universal": load_universal}
    if not gpu:  # only a GPU has pinned memory and streams
        config["zero_optimization"]["overlap_comm"] = False
        for offload in ("offload_optimizer", "offload_param"):
            config["zero_optimization"].get(offload, {}).pop("pin_memory", None)
    return config
