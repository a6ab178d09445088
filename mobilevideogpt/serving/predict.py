"""The answer of a model about one video file."""

import logging
from pathlib import Path

import torch

from mobilevideogpt.annotations.conversations import build_prompt
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.data.encoding import FEATURES, encode
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.generation import generate_answers

log = logging.getLogger(__name__)


def predict_clip(model, processor, path: str | Path, prompt: str, *, max_new_tokens: int) -> str:
    """Answer a prompt for one video file. Its features are computed as for training: in float32, without autocast.

    Raises:
        InputError: If the file is missing or cannot be decoded.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such clip; check the path given with `--config video=...`")
    model.eval()
    encoded = encode(model, [processor.encode_video(path)], model.device, torch.float32)
    features = {name: encoded[name][0] for name in FEATURES}
    return generate_answers(model, processor, [prompt], [features], max_new_tokens)[0].text


def prompt_for_clip(video: str | Path, template: str, data_root: str, exercise: str | None = None) -> str:
    """Fill a prompt template for a clip outside the data set.

    Args:
        video: The clip.
        template: See `build_prompt`.
        data_root: Folder of the data set, with its manifest. A warning is logged if the prompt names an exercise that
            the data set does not contain.
        exercise: The clip's exercise; by default the name of its folder.
    """
    if exercise:
        return build_prompt(template, exercise)
    folder = Path(video).resolve().parent.name
    if "{exercise}" in template:
        _warn_if_unknown(folder, video, data_root)
    return build_prompt(template, folder)


def _warn_if_unknown(exercise: str, video: str | Path, data_root: str) -> None:
    known = {clip.exercise.replace("_", " ") for clip in read_manifest(f"{data_root}/manifest.json", data_root)}
    if exercise.replace("_", " ") not in known:
        log.warning(
            "%s: the prompt names the exercise %r after the clip's folder, but the data set contains %s; name the "
            "exercise with `--config exercise=...`",
            video,
            exercise,
            ", ".join(sorted(known)),
        )
