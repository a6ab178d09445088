"""Shapes of JSON values, and the workflow's own files in other shapes: refused by name, never a traceback."""

import ast
import re
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random

import pytest

from mobilevideogpt.annotations.near_duplicates import read_pairs
from mobilevideogpt.annotations.publishing import is_published, publish
from mobilevideogpt.annotations.reports import read_clip_report, read_summary
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.data.feature_files import read_clip_list
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.evaluated_run import read_metrics, read_predictions
from mobilevideogpt.files import read_json_lines
from mobilevideogpt.hub.checkpoints import fetch
from mobilevideogpt.json_shape import _all_fit, _difference, misfit
from mobilevideogpt.model.model_paths import ModelPaths, describe, read_base
from mobilevideogpt.next_steps import next_steps
from mobilevideogpt.source import _cache_of, source_digest
from mobilevideogpt.training.checkpoints import (
    FINGERPRINT,
    RUN_RECORD,
    adapter_is_intact,
    finished,
    locked,
    read_fingerprint,
    read_preflight,
    read_run_record,
    recorded_content,
    verified_adapter,
)
from mobilevideogpt.training.rehearsal import RehearsalCache
from mobilevideogpt.verification.clip_report import read_clip_checks
from mobilevideogpt.video.check_cache import check_with_cache

ROOT = Path(__file__).parents[1]
SHAPES = ["{}", "[]", "1"]
# What reads each file of the workflow.
READERS = {
    "base.json": read_base,
    "annotations/summary.json": partial(read_summary, rule="build_annotations"),
    "verify/report.json": read_clip_report,
    "verify/duplicates.json": read_pairs,
    "verify/clips/1.json": lambda path: list(read_clip_checks([path])),
    "features/train.json": read_samples,
    "features/clips.json": lambda path: read_clip_list(path.parent),
    "preflight.json": read_preflight,
    "run/train.json": lambda path: read_run_record(path.parent),
    "other/train.json": lambda path: verified_adapter(path.parent),
    "run/metrics.json": partial(read_metrics, remedy="run it"),
    "run/predictions.jsonl": partial(read_predictions, remedy="run it"),
    "run/log.jsonl": partial(read_json_lines, remedy="run it", shape={"step": int}),
    "checkpoints/a/fetched.json": lambda path: describe(ModelPaths("checkpoints/a"), [str(path)]),
    "a/fetched.json": lambda path: fetch("o/a", path.parent),
}
EMPTY = {("verify/duplicates.json", "[]"), ("features/train.json", "[]")}  # no pair, no sample


def _values(random, depth=3):
    plain = [None, True, False, 0, 7, 1.5, "", "text"]
    if not depth or random.random() < 0.3:
        return random.choice(plain)
    inside = [_values(random, depth - 1) for _ in range(random.randrange(4))]
    return inside if random.random() < 0.5 else dict(zip("abc", inside, strict=False))


def test_the_quick_answer_is_the_explained_one():
    shapes = [int, float, bool, str, object, None, [str], [(int, None)], {str: float}, {str: [str]}]
    shapes += [{"a": int}, {"a": (str, None), "b": [object]}, [{"a": (list, None)}], ([int], {str: bool}), [None]]
    random, outcomes = Random(0), Counter()
    shapes += [(int, {"a": int}), ({"a": int}, {"b": str}, [str]), [({"a": int}, {"b": str})], dict, list]
    for _ in range(5000):
        value, shape = _values(random), random.choice(shapes)
        fits = _all_fit([value], shape)
        assert fits is (_difference(value, shape, "it") is None), (value, shape)
        outcomes[fits] += 1
    assert min(outcomes.values()) > 300


@pytest.mark.parametrize("content", SHAPES)
@pytest.mark.parametrize("name", READERS)
def test_a_file_of_the_wrong_shape_is_named_with_what_makes_it_again(name, content, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    if (name, content) in EMPTY:
        assert READERS[name](path) == []
        return
    with pytest.raises(InputError) as caught:
        READERS[name](path)
    remedies = ("delete it", "run `snakemake", "run it", "run the same command again")
    assert str(path) in str(caught.value) and any(remedy in str(caught.value) for remedy in remedies)


@pytest.mark.parametrize("content", [*SHAPES, "{", '{"a": 1}', '{"qved_train.json": 1}', '{"Snakefile": []}'])
def test_a_cache_or_a_fingerprint_of_the_wrong_shape_counts_as_missing(content, project):
    """Snakemake reads some of them for every command."""
    (project / "a.py").write_text("import os\n")
    expected = source_digest("a.py", root=project)
    (project / ".snakemake").mkdir()
    (project / ".snakemake/source_digests.json").write_text(content)
    _cache_of.cache_clear()  # as another process
    assert source_digest("a.py", root=project) == expected
    memory = project / "copies.json"
    memory.write_text(content)
    assert not is_published(["train"], "dataset", memory)
    (project / "one.json").write_text("[]")
    assert publish({"train": project / "one.json"}, "dataset", memory) == []
    assert is_published(["train"], "dataset", memory)
    run = project / "run"
    (run / "adapter").mkdir(parents=True)
    for file in (run / RUN_RECORD, run / "adapter" / FINGERPRINT, run / "adapter" / RUN_RECORD):
        file.write_text(content)
    assert not adapter_is_intact(run)
    adapter = run / "adapter"
    assert read_fingerprint(adapter) is recorded_content(adapter) is finished(run, "one", "last") is None
    assert RehearsalCache(run / RUN_RECORD, "x").read("key") is None
    (run / "cache").mkdir()
    for shard in range(256):
        (run / f"cache/{shard:02x}.json").write_text(content)
    check = {"verdict": "ok", "digest": "d"}
    assert check_with_cache(["a.py"], run / "cache", "c", lambda paths: ((path, check) for path in paths)) == [check]


@pytest.mark.parametrize("content", SHAPES)
def test_what_a_training_says_at_its_end_needs_a_run_record_of_its_shape(content, tmp_path):
    (tmp_path / RUN_RECORD).write_text(content)
    assert re.search(r"train\.json: .*; delete it", next_steps(tmp_path, 0.0, holds_out=True))


@pytest.mark.parametrize("content", SHAPES)
def test_the_holder_of_a_lock_may_be_unknown(content, tmp_path):
    with locked(tmp_path):
        (tmp_path / ".lock-holder.json").write_text(content)
        with pytest.raises(InputError, match=r"process \? on \? is training here"), locked(tmp_path):
            pass


@pytest.mark.parametrize(
    ("value", "shape", "text"),
    [
        ([], dict, "is a list, not an object"),
        ({}, {"a": str}, 'has no "a"'),
        ({"a": {"b": [1, None]}}, {"a": {"b": [int]}}, '"a", "b", entry 2 is null, not a whole number'),
        ({"x": 1, "y": "1"}, {str: float}, '"y" is a text, not a number'),
        (True, int, "is true or false, not a whole number"),
        (1.5, int, "is a number, not a whole number"),
        (None, (str, None), None),
        (1, (str, None), "is a whole number, not a text"),
        (1, float, None),
        ({"a": 1, "b": 2}, {"a": object}, None),
    ],
)
def test_how_a_value_differs_from_a_shape_is_said_in_words(value, shape, text):
    assert misfit(value, shape) == text


# These check the content in their own words, or read what their own process has just written.
OWN_CHECKS = {"groups", "labels", "manifest", "near_duplicates", "samples", "rehearsal", "stale_locks"}


def test_every_file_is_read_with_its_shape():
    for file in [*(ROOT / "mobilevideogpt").rglob("*.py"), *(ROOT / "workflow_scripts").glob("*.py")]:
        if file.stem in OWN_CHECKS:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("read_json", "read_json_lines"):
                assert any(keyword.arg == "shape" for keyword in node.keywords), f"{file}, line {node.lineno}"
