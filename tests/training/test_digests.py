"""Digests of all that affects a run's result."""

from mobilevideogpt.training.digests import run_digests

SAMPLE = {"video": "dataset/squats/1.mp4", "exercise": "squats", "conversations": ["..."], "features": "k"}
BASE = {"base": "base", "files": {"base/model.safetensors": "f" * 64}}


def changed(**changes) -> set[str]:
    """Return the parts whose digest differs from that of the unchanged inputs."""
    inputs = {"settings": {"seed": 1}, "train": [SAMPLE], "val": [], "base": BASE, "code": "c"}
    before, after = run_digests(**inputs), run_digests(**(inputs | changes))
    return {part for part in before if before[part] != after[part]}


def test_each_input_has_its_part():
    assert changed(settings={"seed": 2}) == {"settings"}
    assert changed(code="d") == {"code"}
    assert changed(train=[SAMPLE | {"features": "other"}]) == {"features"}
    assert changed(train=[SAMPLE | {"conversations": []}]) == {"data"}
    assert changed(base=BASE | {"files": {"base/model.safetensors": "e" * 64}}) == {"base"}


def test_names_of_the_base_files_do_not_count():
    assert changed(base={"base": "copy", "files": {"copy/model.safetensors": "f" * 64}}) == set()
