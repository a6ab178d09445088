"""Make the samples: a prompt and an answer for each clip, as a LLaVA conversation. Standard library only."""

import string
from collections.abc import Iterable, Mapping

from mobilevideogpt.annotations.clips import SPLITS, Clip
from mobilevideogpt.annotations.join import Matched
from mobilevideogpt.errors import InputError, shown


def build_prompt(template: str, exercise: str, *, setting: str = "annotations.prompt") -> str:
    """Fill ``{exercise}``, underscores as spaces, and put ``<video>`` in front unless the template contains it.

    Args:
        template: Text with ``{exercise}`` alone: no index, attribute, conversion or format, which can be of any size.
        exercise: Name of the exercise.
        setting: Name of the template in messages.

    Raises:
        InputError: If the template has another placeholder, an unpaired brace, half of a character, no text, or more
            than one ``<video>``.
    """
    where = f"{setting} {shown(template)}"
    try:
        template.encode()
        fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except UnicodeEncodeError as error:
        half = template[error.start]
        raise InputError(f"{where}: contains half of a character, {half!r}; remove it") from None
    except ValueError as error:
        raise InputError(f"{where}: {error}; double a brace that belongs to the text") from None
    for _, name, format_spec, conversion in fields:
        if name != "exercise" or format_spec or conversion:
            found = f"{name}{f'!{conversion}' if conversion else ''}{f':{format_spec}' if format_spec else ''}"
            raise InputError(
                f"{where}: unknown placeholder {{{found[:50]}}}; only {{exercise}} can be filled in, without a format"
            )
    text = template.format(exercise=exercise.replace("_", " ")).strip()
    if not text.replace("<video>", "").strip():
        raise InputError(f"{where}: has no text; write a question or an instruction")
    if text.count("<video>") > 1:
        raise InputError(f"{where}: contains <video> {text.count('<video>')} times; write it once, or leave it out")
    return text if "<video>" in text else f"<video>\n{text}"


def build_annotations(
    clips: Iterable[Clip],
    matched: Matched,
    splits: Mapping[str, str],
    *,
    prompt_template: str,
    groups: Mapping[str, str] | None = None,
) -> dict[str, list[dict]]:
    """Make the samples of each split, sorted by clip: one for each question about a clip.

    Args:
        clips: The clips; those without a label are left out.
        matched: The clips' labels.
        splits: Clip path to its split.
        prompt_template: See `build_prompt`; used where the label has no question of its own.
        groups: Clip path to the name of its group; a clip that is missing here is a group of its own.

    Raises:
        InputError: See `build_prompt`.
    """
    annotations: dict[str, list[dict]] = {name: [] for name in SPLITS}
    for clip in sorted((clip for clip in clips if clip.path in matched.by_clip), key=lambda clip: clip.path):
        prompt = build_prompt(prompt_template, clip.exercise)
        split = splits[clip.path]
        for question, answer in matched.by_clip[clip.path].turns:
            turns = [
                {"from": "human", "value": prompt if question is None else f"<video>\n{question}"},
                {"from": "gpt", "value": answer},
            ]
            annotations[split].append(
                {
                    "video": clip.path,
                    "exercise": clip.exercise,
                    "group": (groups or {}).get(clip.path, clip.path),
                    "conversations": turns,
                    "split": split,
                }
            )
    return annotations
