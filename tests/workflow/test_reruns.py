"""What runs again after which change. A dry run tells exactly, unless one of the two checkpoints is in its plan: these
cut off what does not change only when they run, so that such rows run for real.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mobilevideogpt.files import write_json
from mobilevideogpt.sample.render import ClipSpec, write_clip

AFTER_TRAINING = {"evaluate", "report"}
TRAINING = {"finetune", *AFTER_TRAINING}
CHECK = {"probe_clip", "check_clips"}
SPLIT = {"annotations", "find_duplicates"}


def touch(path: str):
    return lambda project: os.utime(project / path)


def delete(path: str):
    return lambda project: (project / path).unlink()


def edit(path: str, old: str, new: str):
    return lambda project: project.edit(path, old, new)


def append(path: str, text: str):
    return lambda project: (project / path).write_text((project / path).read_text() + text)


def set_to(**changes):
    return lambda project: project.configure(**changes)


def first_clip(project, split: str) -> str:
    return project.json(f"results/annotations/qved_{split}.json")[0]["video"]


def replace_clip(split: str):
    def change(project):
        clip = first_clip(project, split)
        write_clip(ClipSpec(clip.split("/")[1], seed=(11,)), project / clip)

    return change


def reformat_manifest(project):
    clips = project.json("dataset/manifest.json")
    write_json(
        {f"./{path.removeprefix('dataset/')}": clips[path] for path in reversed(clips)},
        project / "dataset/manifest.json",
    )


def reformat_and_learn_otherwise(project):
    reformat_manifest(project)
    project.configure(finetune={"learning_rate": 5e-4})


def add_label_of_no_clip(project):
    labels = project.json("dataset/fine_grained_labels.json")
    labels.append({"video_path": "elsewhere/9999.mp4", "labels": ["squats - no obvious issue"]})
    write_json(labels, project / "dataset/fine_grained_labels.json")


def relabel_test_clip(project):
    clip = first_clip(project, "test").removeprefix("dataset/")
    labels = project.json("dataset/fine_grained_labels.json")
    (record,) = [label for label in labels if label["video_path"] == clip]
    record["labels_descriptive"] = ["squats - go slower"]
    write_json(labels, project / "dataset/fine_grained_labels.json")


@dataclass(frozen=True)
class Row:
    name: str
    change: Callable
    rules: set[str]
    real: bool = False


TABLE = [
    # Nothing that counts has changed.
    Row("manifest touched", touch("dataset/manifest.json"), set()),
    Row("labels touched", touch("dataset/fine_grained_labels.json"), set()),
    Row("clip touched", touch("dataset/squats/0001.mp4"), set()),
    Row("base touched", touch("mobilevideogpt/sample/base/model.safetensors"), set()),
    Row("script touched", touch("workflow_scripts/features.py"), set()),
    Row("rules touched", touch("rules/finetune.smk"), set()),
    Row("comment in a module", append("mobilevideogpt/training/run.py", "\n# a remark\n"), set()),
    Row("docstring of a script", edit("workflow_scripts/finetune.py", '"""Rule', '"""The rule'), set()),
    Row("cosmetics of config.yaml", append("config.yaml", "\n# a remark\n"), set()),
    Row("module of the sample", append("mobilevideogpt/sample/render.py", "\nREMARK = 1\n"), set()),
    # Configuration.
    Row("learning rate", set_to(finetune={"learning_rate": 5e-4}), TRAINING, real=True),
    Row("projectors' learning rate", set_to(finetune={"projector_learning_rate": 1e-4}), TRAINING),
    Row("rank of LoRA", set_to(finetune={"lora_r": 2}), {"preflight", *TRAINING}, real=True),
    Row("longest answer", set_to(evaluate={"max_new_tokens": 6}), AFTER_TRAINING),
    Row("seed of the control", set_to(evaluate={"seed": 1}), AFTER_TRAINING),
    Row("disk that must be free", set_to(preflight={"min_free_disk_gb": 0.2}), {"preflight", "report"}, real=True),
    Row(
        "prompt",
        set_to(annotations={"prompt": "What is wrong with this {exercise}?"}),
        {*SPLIT, "features", "preflight", *TRAINING},
        real=True,
    ),
    Row("seed of the split", set_to(annotations={"seed": 1}), {*SPLIT, "features", "preflight", *TRAINING}),
    # Data.
    Row("manifest reformatted", reformat_manifest, {"annotations"}, real=True),
    Row("manifest reformatted and learning rate", reformat_and_learn_otherwise, {"annotations", *TRAINING}, real=True),
    Row("label of no clip added", add_label_of_no_clip, {"annotations", "report"}, real=True),
    Row("label of a test clip", relabel_test_clip, {*SPLIT, "features", *AFTER_TRAINING}, real=True),
    Row("training clip replaced", replace_clip("train"), {*CHECK, "find_duplicates", "features", *TRAINING}, real=True),
    Row(
        "test clip replaced", replace_clip("test"), {*CHECK, "find_duplicates", "features", *AFTER_TRAINING}, real=True
    ),
    # Code.
    Row("report's template", append("mobilevideogpt/evaluation/report.html.j2", "<!-- x -->"), {"report"}),
    Row("report's module", append("mobilevideogpt/evaluation/report.py", "\nREMARK = 1\n"), {"report"}),
    Row("metrics' module", append("mobilevideogpt/evaluation/metrics.py", "\nREMARK = 1\n"), AFTER_TRAINING),
    Row(
        "training's own module",
        append("mobilevideogpt/training/trainer.py", "\nREMARK = 1\n"),
        {"preflight", *TRAINING},
    ),
    Row("report deleted", delete("results/tiny/report.html"), {"report"}, real=True),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_change_reruns_what_follows_from_it_and_nothing_else(row, trained):
    row.change(trained)
    if not row.real:
        assert trained.snakemake("--cores", "1", "-n").planned == row.rules
        return
    assert trained.run().finished == row.rules
    assert trained.snakemake("-n").is_settled
