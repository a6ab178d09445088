"""A fine-tuning from start to adapter: one at a time in its folder, resumed after an interruption, never stale."""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from torch import Tensor
from transformers import set_seed

from mobilevideogpt.data.dataset import AnnotatedVideos
from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.model.adapter import trained_tensors
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import load_encoders
from mobilevideogpt.stage_result import log_result
from mobilevideogpt.training.adapters import write_adapters
from mobilevideogpt.training.arguments import training_arguments
from mobilevideogpt.training.callbacks import GracefulStop, tell
from mobilevideogpt.training.checkpoints import (
    ADAPTER,
    Fingerprint,
    archive_stale_checkpoints,
    delete_half_written,
    finished,
    locked,
    lost_beside,
    newest_checkpoint,
)
from mobilevideogpt.training.deepspeed_setup import hide_deepspeed, prepare_deepspeed, use_expandable_segments
from mobilevideogpt.training.digests import deepspeed_digest
from mobilevideogpt.training.guards import explain_full_disk, out_of_patience
from mobilevideogpt.training.model_setup import autocast, keep_mode, load_for_training, optimise, parameter_counts
from mobilevideogpt.training.plan import is_first_process, plan_launch, resolve_precision, supported_optimisations
from mobilevideogpt.training.restoring import delete_damaged, restore, resumes_at_the_end
from mobilevideogpt.training.run import Run
from mobilevideogpt.training.run_record import run_record, write_configuration
from mobilevideogpt.training.settings import TrainingSettings
from mobilevideogpt.training.trainer import FinetuneTrainer
from mobilevideogpt.training.universal import is_shared_by_others, write_universal

logger = logging.getLogger(__name__)


def finetune(
    settings: TrainingSettings,
    *,
    model: ModelPaths,
    train: list[dict],
    val: list[dict],
    store: FeatureStore,
    run_folder: str | Path,
    digest: str,
    digests: dict[str, str] | None = None,
    configuration: dict | None = None,
    deepspeed_configs: str | Path = "config",
) -> dict:
    """Fine-tune the language model, by LoRA or whole, and both projectors of the base on cached features.

    The result is in ``run_folder/adapter`` (see `model.adapter.load_finetuned`). With a validation set, ``adapter`` is
    that of the best validation loss or that of the last step (``settings.keep``); the other is ``adapter-last`` or
    ``adapter-best``.

    A finished training of the same digest is not repeated; an interrupted one is resumed. Checkpoints of another digest
    move to ``stale/``, the adapter that was there to ``previous/``. SIGINT and SIGTERM save a checkpoint first. Every
    process of a distributed training calls this; only the first one writes.

    Args:
        settings: With a number for ``batch_size``.
        model: Paths of base and encoders.
        train: Samples, each with ``features``, its key in ``store``.
        val: Likewise, for the validation loss; may be empty.
        store: The features.
        run_folder: Folder of checkpoints, adapter and logs.
        digest: Of all that affects the result.
        digests: Of its parts, for the run record.
        configuration: Whole configuration of the caller, for the run's config.yaml.
        deepspeed_configs: Folder of zero2.json and so on.

    Returns:
        The run record, which train.json contains. What differs between equal runs is under ``this_run``.

    Raises:
        InputError: If the folder is in use, the data is empty, or a loss is non-finite or explodes.
        SystemExit: 128 plus the signal's number, after a signal.
    """
    if not train:
        raise InputError("there is nothing to train on: the training split is empty; check annotations.split")
    folder = Path(run_folder)
    with GracefulStop() as stop, locked(folder) if is_first_process() else nullcontext():
        record = finished(folder, digest, settings.keep)
        if record and not lost_beside(folder):
            logger.info("%s: already trained (digest %s)", folder / ADAPTER, digest[:12])
            return record
        settings = resolve_precision(settings)
        launch = plan_launch(settings)
        use_expandable_segments()
        stage = launch.deepspeed and f"{launch.deepspeed} {deepspeed_digest(launch.deepspeed, deepspeed_configs)}"
        fingerprint = Fingerprint(digest, launch.processes, stage)
        run = Run(settings, launch, model, folder, fingerprint, digests or {}, configuration or {})
        if is_first_process():
            delete_half_written(folder)
            archive_stale_checkpoints(folder, fingerprint)
        if record:
            if not resumes_at_the_end(run, record):
                if is_first_process():
                    restore(run)
                return record
            delete_damaged(run)
        if launch.deepspeed:
            prepare_deepspeed()
        else:
            hide_deepspeed()
        with explain_full_disk(folder, fingerprint):
            return _train(run, train, val, store, stop, Path(deepspeed_configs))


def _train(
    run: Run, train: list[dict], val: list[dict], store: FeatureStore, stop: GracefulStop, deepspeed_configs: Path
) -> dict:
    started = time.monotonic()
    settings = run.settings
    checkpoint = newest_checkpoint(run.folder, run.fingerprint, verified=True)
    encoders = load_encoders(run.model, store.precision) if isinstance(store, UncachedFeatures) else None
    set_seed(settings.seed)
    model = load_for_training(settings, run.model)
    before = _copies(trained_tensors(model)) if is_first_process() else {}
    parameters = parameter_counts(model)
    # Created after the model: transformers would partition a model loaded under ZeRO-3's arguments.
    universal = is_shared_by_others(checkpoint, run.launch.processes)
    arguments = training_arguments(
        settings,
        run.folder,
        run.launch,
        deepspeed_configs,
        evaluate_first=bool(val) and not checkpoint,
        load_universal=universal,
    )
    _check_world_size(arguments.world_size, run.launch.processes)
    if settings.precision == "bf16":
        autocast(model, arguments.device.type)
    keep_mode(model)
    processor = MobileVideoGPTProcessor.from_pretrained(run.model.base)
    train_dataset = AnnotatedVideos(train, store, processor, settings.max_text_tokens)
    eval_dataset = AnnotatedVideos(val, store, processor, settings.max_text_tokens) if val else None
    optimisations = supported_optimisations(settings, run.launch, arguments.device.type)
    micro_batch, longest = arguments.per_device_train_batch_size, max(train_dataset.lengths)
    trainer = FinetuneTrainer(
        model,
        arguments,
        settings=settings,
        processor=processor,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        clips=[sample["video"] for sample in train],
        exercises=[sample["exercise"] for sample in train],
        val_clips=[sample["video"] for sample in val],
        fingerprint=run.fingerprint,
        stop=stop,
        encoders=encoders,
        features_dtype=store.dtype if isinstance(store, UncachedFeatures) else None,
        pad_to_multiple_of=optimise(model, optimisations, micro_batch, longest, processor.num_visual_tokens),
    )
    _run_or_resume(run, trainer, checkpoint, stop)
    record = run_record(
        run, trainer, resumed_from=checkpoint, parameters=parameters, seconds=time.monotonic() - started
    )
    if trainer.is_world_process_zero():
        trainer.state.save_to_json(str(run.folder / "trainer_state.json"))
        write_configuration(run)
    write_adapters(run, trainer, processor, before, record)
    if trainer.is_world_process_zero():
        log_result(_result(record))
    return record


def _result(record: dict) -> str:
    first, kept = record["losses"]["val_first"], record["adapters"][record["kept"]]["val_loss"]
    return f"{record['steps']} steps" + ("" if kept is None else f", validation loss {first:.3f} -> {kept:.3f}")


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _check_world_size(started: int, planned: int) -> None:
    if started != planned:
        raise InputError(
            f"finetune.processes: {planned} are planned, but {started} were started; start as many as are planned"
        )


def _run_or_resume(run: Run, trainer: FinetuneTrainer, checkpoint: Path | None, stop: GracefulStop) -> None:
    """Train to the end.

    Raises:
        SystemExit: After a signal, once a checkpoint is saved.
    """
    if checkpoint:
        logger.info("%s: resuming from %s", run.folder, checkpoint.name)
        shape = {"log_history": [dict], "epoch": float}
        state = read_json(checkpoint / "trainer_state.json", f"delete {checkpoint}/", shape=shape)
        if out_of_patience(state["log_history"], run.settings.early_stopping_patience):
            trainer.args.num_train_epochs = state["epoch"]  # stopped early before; no step is left
    stop.defer = True
    try:
        with _loadable(checkpoint, run, trainer) as loaded:
            trainer.train(resume_from_checkpoint=str(loaded) if loaded else None)
    finally:
        trainer.finish_saving()
    trainer.accelerator.wait_for_everyone()  # for the first, which has completed the last checkpoint
    state = trainer.state
    if stop.signal and state.global_step < state.max_steps:
        if trainer.is_world_process_zero():
            step = state.global_step
            tell(f"Stopped at step {step} of {state.max_steps}; checkpoint-{step} is saved.")
        raise SystemExit(128 + stop.signal)


@contextmanager
def _loadable(checkpoint: Path | None, run: Run, trainer: FinetuneTrainer) -> Iterator[Path | None]:
    """Yield a checkpoint, or a temporary copy of it that this number of processes can load."""
    if not checkpoint or not is_shared_by_others(checkpoint, run.launch.processes):
        yield checkpoint
        return
    folder = run.folder / f".{checkpoint.name}-universal"
    first = trainer.is_world_process_zero()
    if first:
        write_universal(checkpoint, folder)
    trainer.accelerator.wait_for_everyone()
    try:
        yield folder
    finally:
        if first:
            shutil.rmtree(folder)
