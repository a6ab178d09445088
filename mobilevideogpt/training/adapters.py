"""The adapters that a run leaves: that of the last step and that of the best validation loss."""

import logging
import shutil
from collections.abc import Mapping

from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerState

from mobilevideogpt.files import replacing_folder, write_json
from mobilevideogpt.model.model_paths import ADAPTER_FILES, WHOLE_FILES
from mobilevideogpt.training.checkpoints import (
    ADAPTER,
    RUN_RECORD,
    is_unchanged,
    read_fingerprint,
    record_beside,
    write_fingerprint,
)
from mobilevideogpt.training.guards import check_that_all_moved
from mobilevideogpt.training.log_history import best_step
from mobilevideogpt.training.run import Run

logger = logging.getLogger(__name__)


def choose_adapters(run: Run, state: TrainerState) -> dict:
    """Return which adapter is ``kept`` as ``adapter``, and the path, step, epoch and validation loss of each.

    Paths are relative to the run's folder.
    """
    validations = {entry["step"]: entry for entry in state.log_history if "eval_loss" in entry}
    steps = {"last": state.global_step}
    if best := best_step(state.log_history):
        checkpoint = run.folder / f"checkpoint-{best}"
        if read_fingerprint(checkpoint) == run.fingerprint and is_unchanged(checkpoint):
            steps["best"] = best
        else:
            logger.warning(
                "%s: checkpoint-%d, the best, is incomplete or damaged; the last step's is kept", run.folder, best
            )
        if validations[best]["eval_loss"] >= validations[0]["eval_loss"]:
            logger.warning("%s: the validation loss never fell below its value before training", run.folder)
    kept = run.settings.keep if run.settings.keep in steps else "last"
    adapters = {}
    for which, step in steps.items():
        validation = validations.get(step, {})
        adapters[which] = {
            "path": ADAPTER if which == kept else f"{ADAPTER}-{which}",
            "step": step,
            "epoch": validation.get("epoch", state.epoch),
            "val_loss": validation.get("eval_loss"),
        }
    return {"kept": kept, "adapters": adapters}


def write_adapters(run: Run, trainer, processor, before: Mapping[str, Tensor], record: dict) -> None:
    """Write both adapters, each whole or not at all; ``adapter`` comes last, as it declares the run finished.

    Args:
        run: The run.
        trainer: After training; all processes take part, as ZeRO-3 distributes the parameters.
        processor: Saved with each adapter.
        before: The trained tensors at the start of training, in the first process.
        record: The run record, written into each adapter's folder.

    Raises:
        InputError: If a trained tensor did not change.
    """
    if not trainer.is_world_process_zero():
        trainer.save_adapter(None)
        return
    files = WHOLE_FILES if run.settings.method == "full" else ADAPTER_FILES
    for which in ("best", "last"):
        shutil.rmtree(run.folder / f"{ADAPTER}-{which}", ignore_errors=True)
    for which, adapter in sorted(record["adapters"].items(), key=lambda item: item[0] == record["kept"]):
        previous = run.folder / "previous" if which == record["kept"] else None
        with replacing_folder(run.folder / adapter["path"], previous) as folder:
            if which == "best":
                for name in files:
                    shutil.copyfile(run.folder / f"checkpoint-{adapter['step']}" / name, folder / name)
            else:
                trainer.save_adapter(folder)
                check_that_all_moved(before, load_file(folder / files[-1]), trainer.state.log_history)
            processor.save_pretrained(folder)
            write_json(record, folder / RUN_RECORD)
            write_fingerprint(folder, run.fingerprint)
    record_beside(run.folder)
