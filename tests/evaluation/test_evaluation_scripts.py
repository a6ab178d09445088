"""The scripts of evaluate, infer and export, run as Snakemake runs them, on the tiny random model."""

import json
import logging
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mobilevideogpt.evaluation.generation import load_for_inference, predict, predict_clip
from mobilevideogpt.files import write_json
from mobilevideogpt.model.adapter import load_adapter

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


@pytest.fixture
def run_script(tiny, tmp_path, monkeypatch):
    """Run a script with these inputs, params and outputs, and put the logging back afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    write_json({"base": str(tiny.base), "video_encoder": None, "image_encoder": None}, tmp_path / "base.json")
    write_json({"adapter": str(tiny.adapter), "precision": "fp32"}, tmp_path / "train.json")

    def run(name, params, output=None, **inputs):
        snakemake = SimpleNamespace(
            input=SimpleNamespace(base=tmp_path / "base.json", train=tmp_path / "train.json", **inputs),
            output=SimpleNamespace(**output or {}),
            params=SimpleNamespace(**params),
            log=[tmp_path / "log"],
        )
        runpy.run_path(str(SCRIPTS / name), init_globals={"snakemake": snakemake})

    yield run
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_evaluate_writes_metrics_and_a_line_a_clip(run_script, tiny, tmp_path):
    write_json(tiny.records, tmp_path / "test.json")
    write_json(tiny.features, tmp_path / "features.json")
    output = {"metrics": tmp_path / "metrics.json", "predictions": tmp_path / "predictions.jsonl"}
    params = {"store": tiny.store.folder, "uncached": None, "seed": 1, "batch_size": 2, "max_new_tokens": 4}
    params |= {"prompt": "A {exercise}?", "answers": "labels"}
    files = {"test": tmp_path / "test.json", "features": tmp_path / "features.json"}
    run_script("evaluate.py", params, output, **files)
    metrics = json.loads(output["metrics"].read_text())
    assert metrics["finetuned"]["n"] == 3
    assert metrics["settings"]["prompt_names_exercise"] is True
    rows = [json.loads(line) for line in output["predictions"].read_text().splitlines()]
    assert [row["video"] for row in rows] == [record["video"] for record in tiny.records]


def test_infer_prints_the_answer_alone(run_script, tiny, draw_clip, tmp_path, capsys):
    clip = tmp_path / "squats" / "clip.mp4"
    draw_clip(clip)
    model = load_adapter(load_for_inference(tiny.base), tiny.adapter)
    expected = predict_clip(model, tiny.processor, clip, "Analyze this squats video.", max_new_tokens=4)
    params = {"exercise": None, "prompt": "Analyze this {exercise} video.", "max_new_tokens": 4}
    params |= {"video": str(clip), "data_root": str(tmp_path)}
    write_json({"squats/1.mp4": "squats", "lunges/1.mp4": "lunges"}, tmp_path / "manifest.json")
    capsys.readouterr()
    run_script("infer.py", params)
    said = capsys.readouterr()
    assert said.out == f"{expected}\n" and "the prompt names" not in said.err
    write_json({"lunges/1.mp4": "lunges"}, tmp_path / "manifest.json")
    run_script("infer.py", params)
    said = capsys.readouterr()
    assert said.out == f"{expected}\n" and "the exercise 'squats', after the folder of" in said.err
    run_script("infer.py", params | {"exercise": "squats"})
    assert "the prompt names" not in capsys.readouterr().err


def test_the_exported_checkpoint_answers_as_base_and_adapter_do(run_script, tiny, tmp_path):
    run_script("export.py", {"folder": tmp_path / "export"})
    options = {"batch_size": 4, "max_new_tokens": 8}
    arguments = (tiny.processor, tiny.records, tiny.features, tiny.store)
    adapted = load_adapter(load_for_inference(tiny.base), tiny.adapter)
    merged = load_for_inference(tmp_path / "export")
    assert predict(merged, *arguments, **options) == predict(adapted, *arguments, **options)
