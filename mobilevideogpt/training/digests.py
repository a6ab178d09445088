"""Digests of all that affects a run's result. Standard library only."""

from collections.abc import Mapping, Sequence

from mobilevideogpt.files import json_digest

TRAINED_ON = ("video", "conversations")  # what the training reads of each sample; how it was split does not count


def run_digests(
    settings: Mapping, train: Sequence[Mapping], val: Sequence[Mapping], base: Mapping, code: str
) -> dict[str, str]:
    """Digest each part of the inputs. Names and dates of files do not count.

    Args:
        settings: The result-affecting ones.
        train: Samples with ``features``, the key of the clip's cached features.
        val: Likewise, for the validation loss.
        base: Content of base.json.
        code: Digest of the code that trains.
    """
    names = ("video", "conversations", "exercise") if settings.get("balance") == "exercise" else TRAINED_ON
    return {
        "settings": json_digest(dict(settings)),
        "data": json_digest({"train": _only(names, train), "val": _only(TRAINED_ON, val)}),
        "features": json_digest({sample["video"]: sample.get("features") for sample in [*train, *val]}),
        "base": json_digest(sorted(base["files"].values())),
        "code": code,
    }


def _only(names: Sequence[str], samples: Sequence[Mapping]) -> list[dict]:
    return [{name: sample[name] for name in names} for sample in samples]
