"""Fixtures of evaluation and serving: a tiny random model with samples, a drawn clip, and the scripts of rules."""

import logging
import runpy
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.files import write_json
from mobilevideogpt.model.adapter import add_lora
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training.checkpoints import content_digest
from tests.tiny import random_features, tiny_config, token_ids, write_byte_tokenizer

SCRIPTS = Path(__file__).parents[1] / "workflow_scripts"


@pytest.fixture(scope="session")
def draw_clip():
    """Write a clip of a square that moves; 160 by 120 pixels, 10 frames a second."""

    def draw(path, frames=20):
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as file:
            stream = file.add_stream("libx264", rate=Fraction(10))
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for i in range(frames):
                picture = np.full((120, 160, 3), 200, np.uint8)
                picture[20:40, 2 * i : 2 * i + 20] = (180, 40, 40)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            file.mux(stream.encode())

    return draw


def sample(exercise, prompt, answer, features):
    turns = [{"from": "human", "value": prompt}, {"from": "gpt", "value": answer}]
    clip = {"video": f"dataset/{exercise}/0001.mp4", "exercise": exercise}
    return clip | {"conversations": turns, "split": "test", "features": features}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A base checkpoint and an adapter on disk, both random; paths, samples, store and processor."""
    folder = tmp_path_factory.mktemp("tiny")
    base, adapter = folder / "base", folder / "adapter"
    processor = write_byte_tokenizer(base)
    torch.manual_seed(0)
    config = tiny_config(**token_ids(processor), num_hidden_layers=1, initializer_range=0.5)
    model = MobileVideoGPTForConditionalGeneration(config)
    model.save_pretrained(base, layout="official")
    wrapped = add_lora(model, r=4, lora_alpha=8, lora_dropout=0.0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    wrapped.save_pretrained(adapter)

    questions = (
        ("squats", "<video>\nWhat do you see?", "good form"),
        ("lunges", "<video>\nAnalyze this video, then say at length what to do better.", "knee falls in"),
        ("squat_jump", "<video>\nGo.", "good form"),
    )
    samples = [
        sample(exercise, prompt, f"{exercise} - {feedback}", features=f"{i:064}")
        for i, (exercise, prompt, feedback) in enumerate(questions)
    ]
    store = FeatureStore(folder / "features")
    for row in samples:
        store.write(row["features"], random_features(config) | {"frame_scores": torch.rand(config.num_frames)})
    return SimpleNamespace(
        paths=ModelPaths(str(base)), adapter=adapter, samples=samples, store=store, processor=processor
    )


@pytest.fixture
def run_script(tiny, tmp_path, monkeypatch):
    """Run a script as Snakemake does, on the tiny model, and restore the logging afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    write_json(tiny.paths.named | {"files": {}, "encoders_digest": ""}, tmp_path / "base.json")
    trained = {
        "adapter": str(tiny.adapter),
        "adapter_content": content_digest(tiny.adapter),
        "precision": "fp32",
        "digest": "d",
        **{"run": "tiny", "digests": {}, "keep": "last", "kept": "last", "adapters": {}, "losses": {}, "this_run": {}},
        "logs": {"steps": "log.jsonl"},
    }
    write_json(trained, tmp_path / "train.json")

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
