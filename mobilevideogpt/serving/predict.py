"""The answer of a model about one video file."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from mobilevideogpt.annotations.clips import Clip, exercise_name
from mobilevideogpt.annotations.conversations import build_prompt
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.data.encoding import FEATURES, encode
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.generation import generate_answers
from mobilevideogpt.segments import file_of, split_segment, with_segment

log = logging.getLogger(__name__)
LISTED = 10  # exercises in a message


def predict_clip(model, processor, path: str | Path, prompt: str, *, max_new_tokens: int) -> str:
    """Answer a prompt for one video file. Its features are computed as for training: in float32, without autocast.

    Raises:
        InputError: If the file is missing or cannot be decoded.
    """
    if not Path(file_of(path)).is_file():
        raise InputError(f"{path}: there is no such clip; check the path given with `--config video=...`")
    model.eval()
    encoded = encode(model, [processor.encode_video(path)], model.device, torch.float32)
    features = {name: encoded[name][0] for name in FEATURES}
    return generate_answers(model, processor, [prompt], [features], max_new_tokens)[0].text


def prompt_for_clip(video: str | Path, template: str, data_root: str, exercise: str | None = None) -> str:
    """Fill a prompt template for a clip.

    Args:
        video: The clip, of the data set or another one.
        template: See `build_prompt`.
        data_root: Folder of the data set, with its manifest.
        exercise: The clip's exercise; by default that of the manifest, or else the name of the clip's folder if the
            data set contains an exercise of that name.

    Raises:
        InputError: If the template needs the exercise and none is known.
    """
    if not exercise and "{exercise}" in template:
        exercise = _exercise_of(video, read_manifest(f"{data_root}/manifest.json", data_root), data_root)
    return build_prompt(template, exercise or "")


def _exercise_of(video: str | Path, clips: Sequence[Clip], data_root: str) -> str:
    file, segment = split_segment(video)
    below = os.path.relpath(os.path.realpath(file), os.path.realpath(data_root))
    path = with_segment(f"{data_root}/{below}", segment)
    for clip in clips:
        if clip.path == path:
            return clip.exercise
    known = {clip.exercise for clip in clips}
    folder = exercise_name(Path(path).parent.name or ".", str(video))
    if folder not in known:
        raise InputError(
            f"{video}: the prompt names the exercise, and neither {data_root}/manifest.json nor the clip's folder "
            f"says which it is; name it with `--config exercise=...`, as in {', '.join(sorted(known)[:LISTED])}"
        )
    log.warning("%s: the exercise in the prompt, %r, is the name of the clip's folder", video, folder)
    return folder
