"""What a finished training left beside its adapter: made again where it is gone, without training if possible."""

import json
import logging
import shutil

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_text
from mobilevideogpt.training.checkpoints import (
    ADAPTER,
    lost_beside,
    newest_checkpoint,
    record_beside,
    step_of,
)
from mobilevideogpt.training.run import Run
from mobilevideogpt.training.run_record import write_configuration

logger = logging.getLogger(__name__)


def resumes_at_the_end(run: Run, record: dict) -> bool:
    """Whether the checkpoint of the last step is there: resumed, it takes no step and writes all files again."""
    checkpoint = newest_checkpoint(run.folder, run.fingerprint, verified=True)
    return checkpoint is not None and step_of(checkpoint) == record["steps"]


def delete_damaged(run: Run) -> None:
    """Delete the damaged files; of TensorBoard's all, since a new file repeats every step."""
    for name in (lost := lost_beside(run.folder)):
        (run.folder / name).unlink(missing_ok=True)
    if any(name.startswith("tensorboard/") for name in lost):
        shutil.rmtree(run.folder / "tensorboard", ignore_errors=True)


def restore(run: Run) -> None:
    """Write configuration and log again, for a run without a checkpoint of its last step; name what stays lost.

    Raises:
        InputError: If the log is lost, and the Trainer's state with it.
    """
    folder, again = run.folder, f"delete {run.folder / ADAPTER}/ and run the same command again to train again"
    lost, made = lost_beside(folder), set()
    if "config.yaml" in lost:
        write_configuration(run)
        made.add("config.yaml")
    if "log.jsonl" in lost:
        if "trainer_state.json" in lost:
            raise InputError(f"{folder}/log.jsonl: lost, and no checkpoint of the last step is left; {again}")
        state = read_json(folder / "trainer_state.json", again, shape={"log_history": [dict]})
        lines = (json.dumps(entry, sort_keys=True) + "\n" for entry in state["log_history"])
        write_text("".join(lines), folder / "log.jsonl")
        made.add("log.jsonl")
    if stays := [name for name in lost if name not in made]:
        logger.warning(
            "%s: %s lost or damaged, and no checkpoint of the last step is left; to have them, %s",
            folder,
            ", ".join(stays),
            again,
        )
    record_beside(folder, without=stays)
