"""Digests of all that affects a run's result. Standard library only."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from mobilevideogpt.files import json_digest, read_json

TRAINED_ON = ("video", "conversations")  # what the training reads of each sample; how it was split does not count


def run_digests(
    settings: Mapping,
    train: Sequence[Mapping],
    val: Sequence[Mapping],
    base: Mapping,
    code: str,
    deepspeed: str | None = None,
) -> dict[str, str]:
    """Digest each part of the inputs. Names and dates of files do not count.

    Args:
        settings: The result-affecting ones.
        train: Samples with ``features``, the key of the clip's cached features.
        val: Likewise, for the validation loss.
        base: Content of base.json.
        code: Digest of the code that trains.
        deepspeed: See `deepspeed_digest`.
    """
    names = ("video", "conversations", "exercise") if settings.get("balance") == "exercise" else TRAINED_ON
    with_deepspeed = {} if deepspeed is None else {"deepspeed": deepspeed}
    return with_deepspeed | {
        "settings": json_digest(dict(settings)),
        "data": json_digest({"train": _only(names, train), "val": _only(TRAINED_ON, val)}),
        "features": json_digest({sample["video"]: sample.get("features") for sample in [*train, *val]}),
        "base": json_digest(sorted(base["files"].values())),
        "code": code,
    }


def deepspeed_digest(stage: str | None, configs: str | Path = "config") -> str | None:
    """Digest what DeepSpeed adds to a training: its configuration of a stage and its version.

    Args:
        stage: ``zero2`` and so on. None, ``none`` and ``auto``, whose stage follows from the machine, have no digest.
        configs: Folder of ``<stage>.json``.

    Raises:
        InputError: If the configuration is missing or malformed.
    """
    if stage in (None, "none", "auto"):
        return None
    content = read_json(Path(configs, f"{stage}.json"), "restore it from the repository", shape=dict)
    return json_digest([content, metadata.version("deepspeed")])


def _only(names: Sequence[str], samples: Sequence[Mapping]) -> list[dict]:
    return [{name: sample[name] for name in names} for sample in samples]
