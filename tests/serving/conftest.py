"""A run of a tiny random model as its training leaves it, and clips."""

import shutil
from types import SimpleNamespace

import pytest

from mobilevideogpt.files import json_digest, read_json, write_json
from mobilevideogpt.model.model_paths import describe
from mobilevideogpt.serving.finetuned import find_finetuned
from mobilevideogpt.serving.pipeline import Pipeline
from mobilevideogpt.training.checkpoints import content_digest
from tests.tiny_model import draw_clip, run_script, tiny

__all__ = ["draw_clip", "run_script", "tiny"]


@pytest.fixture(scope="session")
def made(tiny, draw_clip, tmp_path_factory):
    """A project with ``results/tiny`` and two clips of one exercise; to be read only."""
    project = tmp_path_factory.mktemp("project")
    run, base = project / "results/tiny", tiny.paths
    shutil.copytree(tiny.adapter, run / "adapter")
    config = read_json(run / "adapter/adapter_config.json")
    write_json(config | {"base_model_name_or_path": "checkpoints/owner/base"}, run / "adapter/adapter_config.json")
    described = describe(base, [str(file) for file in sorted((tmp_path_factory.getbasetemp() / base.base).glob("*"))])
    write_json(described, project / "results/base.json")
    record = {
        **{"run": "tiny", "digest": "d", "digests": {"base": json_digest(sorted(described["files"].values()))}},
        **{"base": base.base, "model": base.named, "prompt": "Analyze this {exercise} video."},
        **{"exercises": ["lunges", "squats"], "precision": "fp32", "keep": "last", "kept": "last", "losses": {}},
        **{"adapter": "adapter", "adapter_content": content_digest(run / "adapter"), "adapters": {}, "steps": 3},
        **{"epochs": 1.0, "clips": {"train": 3, "val": 1}, "logs": {"steps": "log.jsonl"}},
        "this_run": {"host": "secret-machine", "seconds": 1.0},
        "versions": {"torch": "2.13.0"},
    }
    write_json(record, run / "train.json")
    write_json(record, run / "adapter/train.json")
    (run / "config.yaml").write_text("finetune: {lora_r: 4}\n")
    for number in (1, 2):
        draw_clip(project / f"dataset/squats/{number}.mp4", frames=16 + 4 * number)
    write_json({f"squats/{number}.mp4": "squats" for number in (1, 2)}, project / "dataset/manifest.json")
    return project


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of the project, as the working directory."""
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(scope="session")
def pipeline(made):
    """The run's model; its paths are those of ``made``."""
    return Pipeline(find_finetuned(made / "results/tiny"))


@pytest.fixture
def script(tmp_path, run_script):
    """Run a script as Snakemake does, with parameters alone."""

    def run(name, output=None, **params):
        return run_script(name, SimpleNamespace(**params).__dict__, output)

    return run
