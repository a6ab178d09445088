"""A tiny random checkpoint, random features and seven samples to train on."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.model.configuration import FRAMES_PER_CHUNK
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training.finetune import finetune
from mobilevideogpt.training.settings import TrainingSettings
from tests.tiny import chunks, random_features, tiny_config, token_ids, write_byte_tokenizer

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "epochs": 2,
    "batch_size": 2,
    "lora_r": 4,
    "lora_alpha": 8,
    "learning_rate": 1e-3,
    "projector_learning_rate": 3e-4,
    "precision": "fp32",
    "gradient_checkpointing": False,
    "deepspeed": "none",
    "num_workers": 0,
    "save_steps": 2,
    "save_total_limit": 9,
    "report_to": [],
}


@dataclass
class Project:
    """The files that the training reads."""

    folder: Path
    train: list[dict]
    val: list[dict]

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def store(self) -> FeatureStore:
        return FeatureStore(self.folder / "features")

    def settings(self, **changes) -> TrainingSettings:
        return TrainingSettings.from_dict(SETTINGS | changes)

    @property
    def paths(self) -> ModelPaths:
        return ModelPaths(str(self.base))

    def finetune(self, run_folder, digest="one", train=None, val=None, **changes) -> dict:
        """Train in this process."""
        return finetune(
            self.settings(**changes),
            model=self.paths,
            train=self.train if train is None else train,
            val=self.val if val is None else val,
            store=self.store,
            run_folder=run_folder,
            digest=digest,
            deepspeed_configs=ROOT / "config",
        )

    def start(self, run_folder: Path, digest="one", before: Path | None = None, **changes) -> subprocess.Popen:
        """Start the script, as the rule does; ``before`` is put first on the import path."""
        command = {
            "--configuration": json.dumps({"finetune": SETTINGS | changes}),
            "--train": self.folder / "train.json",
            "--val": self.folder / "val.json",
            "--features": self.folder / "features",
            "--base": self.folder / "base.json",
            "--run-folder": run_folder,
            "--output": run_folder / "train.json",
            "--log": run_folder.with_suffix(".log"),
            "--digest": digest,
        }
        script = ROOT / "workflow_scripts" / "finetune.py"
        words = [str(word) for pair in command.items() for word in pair]
        imports = [str(path) for path in (before, os.environ.get("PYTHONPATH")) if path]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(imports)}
        return subprocess.Popen([sys.executable, script, *words], env=environment, start_new_session=True)


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    torch.set_num_threads(1)  # as in the script's processes, for results equal to the bit
    folder = tmp_path_factory.mktemp("project")
    processor = write_byte_tokenizer(folder / "base", frames=FRAMES_PER_CHUNK)
    torch.manual_seed(0)
    clip = {"image_hidden_size": 16, "image_intermediate_size": 16}
    config = tiny_config(**token_ids(processor), **chunks(1), **clip, intermediate_size=64)
    MobileVideoGPTForConditionalGeneration(config).save_pretrained(folder / "base")
    samples = []
    for n in range(7):
        clip, key = f"dataset/squats/{n:04}.mp4", f"{n:064}"
        FeatureStore(folder / "features").write(key, random_features(config))
        answer = f"squats - {'not ' * n}deep enough"
        turns = [{"from": "human", "value": "<video>\nWhat is wrong?"}, {"from": "gpt", "value": answer}]
        samples.append({"video": clip, "exercise": "squats", "conversations": turns, "features": key})
    project = Project(folder, samples[:5], samples[5:])
    base = {"base": str(project.base), "video_encoder": None, "image_encoder": None}
    base |= {"files": {}, "encoders_digest": ""}
    for name, value in (("train", project.train), ("val", project.val), ("base", base)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    return project


@pytest.fixture(scope="session")
def finished(project, tmp_path_factory) -> tuple[dict, Path]:
    """An uninterrupted run: its run record and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return project.finetune(folder), folder
