"""The run record, train.json: inputs, results and circumstances of one fine-tuning."""

import socket
from dataclasses import asdict
from pathlib import Path

import yaml
from accelerate.utils import gather_object

from mobilevideogpt.files import write_text
from mobilevideogpt.machine import device_name, git_revision, peak_memory, versions
from mobilevideogpt.training.adapters import choose_adapters
from mobilevideogpt.training.checkpoints import ADAPTER, step_of
from mobilevideogpt.training.log_history import learning_rates, losses
from mobilevideogpt.training.run import Run


def run_record(run: Run, trainer, *, resumed_from: Path | None, parameters: dict[str, int], seconds: float) -> dict:
    """Return the run record. Paths are relative to the run's folder; ``this_run`` has what differs between equal runs.

    Args:
        run: The run.
        trainer: After training.
        resumed_from: The checkpoint that the training was resumed from.
        parameters: See `model_setup.parameter_counts`.
        seconds: Duration.

    All processes call this, as it has the peak memory of each.
    """
    state, arguments, settings = trainer.state, trainer.args, run.settings
    step_seconds = trainer.stopwatch.median_step_seconds()
    peaks = gather_object([peak_memory()])
    train, val = trainer.train_dataset, trainer.eval_dataset
    return {
        "run": run.folder.name,
        "digest": run.fingerprint.digest,
        "digests": run.digests,
        "base": str(run.model.base),
        "model": {name: path and str(path) for name, path in run.model.named.items()},
        "prompt": run.configuration.get("annotations", {}).get("prompt"),
        "exercises": sorted(set(trainer.exercises)),
        "adapter": ADAPTER,
        "epochs": state.epoch,
        "steps": state.global_step,
        "resumed_from": step_of(resumed_from) if resumed_from else None,
        "losses": losses(state.log_history),
        "keep": settings.keep,
        **choose_adapters(run, state),
        "learning_rates": learning_rates(state.log_history, trainer.learning_rates),
        "clips": {"train": len(train), "val": len(val) if val else 0},
        "truncated_texts": {"train": train.truncated, "val": val.truncated if val else 0},
        "parameters": parameters,
        "precision": settings.precision,
        "batch": {
            "effective": settings.effective_batch_size,
            "micro": arguments.per_device_train_batch_size,
            "accumulation": settings.gradient_accumulation_steps,
            "gradient_checkpointing": settings.gradient_checkpointing,
        },
        "deepspeed": run.launch.deepspeed,
        "world_size": arguments.world_size,
        "versions": versions(),
        "git_revision": git_revision(),
        "logs": {
            "steps": "log.jsonl",
            "state": "trainer_state.json",
            "tensorboard": "tensorboard" if "tensorboard" in settings.report_to else None,
        },
        "this_run": {
            "seconds": round(seconds, 1),
            "seconds_of": trainer.stopwatch.seconds_of(seconds),
            "samples_per_second": step_seconds and round(settings.effective_batch_size / step_seconds, 3),
            "peak_memory_bytes": max(peaks, key=lambda peak: peak["reserved_bytes"])["reserved_bytes"],
            "processes": peaks,
            "device": device_name(),
            "host": socket.gethostname(),
        },
    }


def write_configuration(run: Run) -> None:
    """Write config.yaml: the caller's configuration, with the values that this run used."""
    resolved = run.configuration | {
        "run": run.folder.name,
        "model": {name: path and str(path) for name, path in run.model.named.items()},
        "finetune": asdict(run.settings),
        "resolved": asdict(run.launch),
    }
    write_text(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), run.folder / "config.yaml")
