"""Scores of the sample's fine-tuning on held-out rendered clips and on the default test split.

    python benchmarks/sample_learning.py --seeds 42 43 44   # after `snakemake --cores 1 finetune` on the sample

Trains on the sample's training split with each seed and evaluates the base, the fine-tuned model and the grounding
control on clips of the same exercises drawn from other seeds. Prints one line per seed and set.
"""

import argparse
import json
import logging
import os
import time
from functools import partial
from pathlib import Path

import torch
import yaml

from mobilevideogpt.annotations.conversations import build_annotations
from mobilevideogpt.annotations.join import join_labels
from mobilevideogpt.annotations.labels import read_labels
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.annotations.splits import assign_splits
from mobilevideogpt.data.feature_stage import compute_features
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.evaluation.answers import answer_here
from mobilevideogpt.evaluation.evaluate import evaluate
from mobilevideogpt.files import file_digest, json_digest
from mobilevideogpt.model.model_paths import ModelPaths, describe
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.sample.render import write_sample
from mobilevideogpt.settings import merge, validated
from mobilevideogpt.training.finetune import finetune
from mobilevideogpt.training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("exercise_accuracy", "feedback_accuracy", "rougeL", "shown_exercise_accuracy")


def annotate(folder: Path, seed: int, clips_per_exercise: int, config: dict, split: dict) -> dict[str, list[dict]]:
    """Render a set of clips, unless it exists, and return its samples."""
    if not (folder / "manifest.json").exists():
        write_sample(folder, seed=seed, clips_per_exercise=clips_per_exercise)
    clips = read_manifest(folder / "manifest.json", str(folder))
    matched = join_labels(clips, read_labels(folder / "fine_grained_labels.json", str(folder)), data_root=str(folder))
    settings = config["annotations"]
    splits = assign_splits(clips, matched.by_clip, split, settings["seed"]).by_clip
    return build_annotations(clips, matched, splits, prompt_template=settings["prompt"])


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--held-out-seed", type=int, default=1000)
    parser.add_argument("--clips-per-exercise", type=int, default=10)
    parser.add_argument("--work", type=Path, default="results/benchmarks/sample_learning")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--finetune", type=json.loads, default={}, help="JSON: settings that replace the sample's")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    schema = yaml.safe_load((ROOT / "config/schema.yaml").read_text())
    overrides = yaml.safe_load((ROOT / "config/sample.yaml").read_text())
    config = validated(merge(overrides, {"finetune": options.finetune}), schema)
    base = options.base or Path(config["model"]["base"])

    os.chdir(ROOT)
    splits = {split: Path(f"results/sample/annotations/qved_{split}.json") for split in ("train", "val", "test")}
    own = {split: read_samples(path) for split, path in splits.items()}
    whole = {"train": 1, "val": 0, "test": 0}
    other = annotate(options.work / "held_out", options.held_out_seed, options.clips_per_exercise, config, whole)
    sets = {"held-out": other["train"], "test split": own["test"]}
    processor = MobileVideoGPTProcessor.from_pretrained(base)

    def load():
        return MobileVideoGPTForConditionalGeneration.from_pretrained(base, dtype=torch.float32).eval()

    store = FeatureStore(options.work / "features")
    clips = {
        sample["video"]: file_digest(sample["video"]) for split in (*own.values(), other["train"]) for sample in split
    }
    device = "cuda" if torch.cuda.is_available() else "cpu"
    paths = ModelPaths(str(base))
    features = compute_features(
        paths, describe(paths, paths.files())["encoders_digest"], clips, store.folder,
        dtype=config["features"]["dtype"], precision="auto", batch_size=4, code="", cache=True,
        threads=os.cpu_count() or 1,
    )  # fmt: skip

    def with_keys(samples):
        return [sample | {"features": features[sample["video"]]} for sample in samples]

    print(f"{'seed':>6} {'set':>11} {'model':>16} {'n':>4} " + " ".join(f"{c:>24}" for c in COLUMNS), flush=True)
    for seed in options.seeds:
        started = time.monotonic()
        run = options.work / f"run-{seed}"
        record = finetune(
            TrainingSettings.from_dict(config["finetune"] | {"seed": seed}),
            model=paths,
            train=with_keys(own["train"]),
            val=with_keys(own["val"]),
            store=store,
            run_folder=run,
            digest=json_digest([seed, config["finetune"], time.time()]),
        )
        print(f"{seed:>6} trained in {time.monotonic() - started:.0f} s, losses {record['losses']}", flush=True)
        for name, samples in sets.items():
            answer = partial(answer_here, load().to(device), processor, run / "adapter", store, progress=False)
            limits = {"batch_size": 6, "max_new_tokens": 64}
            metrics, rows = evaluate(answer, with_keys(samples), own["train"], seed=0, **limits)
            print(f"{seed:>6} {name:>11} {metrics['conclusion']['headline']}", flush=True)
            for kind in ("base", "finetuned", "mismatched_video"):
                scores = [metrics[kind].get(column) for column in COLUMNS]
                cells = " ".join(f"{'' if score is None else f'{score:.3f}':>24}" for score in scores)
                print(f"{seed:>6} {name:>11} {kind:>16} {len(samples):>4} {cells}", flush=True)
            (run / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
