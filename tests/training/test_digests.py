"""Digests of all that affects a run's result."""

import json
from importlib import metadata

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.digests import deepspeed_digest, run_digests

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


def test_deepspeed_counts_only_where_it_is_used(tmp_path, monkeypatch):
    assert deepspeed_digest("none") is None and deepspeed_digest("auto") is None
    assert "deepspeed" not in run_digests({"seed": 1}, [SAMPLE], [], BASE, "c")
    content = {"zero_optimization": {"stage": 2}, "gradient_clipping": "auto"}
    (tmp_path / "zero2.json").write_text(json.dumps(content))
    before = deepspeed_digest("zero2", tmp_path)
    (tmp_path / "zero2.json").write_text(json.dumps(content, indent=4))
    assert deepspeed_digest("zero2", tmp_path) == before
    (tmp_path / "zero2.json").write_text(json.dumps(content | {"gradient_clipping": 0.5}))
    after = deepspeed_digest("zero2", tmp_path)
    monkeypatch.setattr(metadata, "version", lambda name: "99")
    assert len({before, after, deepspeed_digest("zero2", tmp_path)}) == 3
    assert run_digests({"seed": 1}, [SAMPLE], [], BASE, "c", after)["deepspeed"] == after
    with pytest.raises(InputError, match=r"zero3\.json"):
        deepspeed_digest("zero3", tmp_path)
