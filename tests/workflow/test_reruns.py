"""What runs again after which change. A dry run is exact unless the checkpoint is in its plan: the checkpoint cuts off
what does not change only when it runs, so that such rows run for real.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import av
import pytest

from mobilevideogpt.files import write_json
from mobilevideogpt.paths import shard_of
from mobilevideogpt.sample.render import ClipSpec, write_clip

AFTER_TRAINING = {"evaluate", "report"}
TRAINING = {"finetune", *AFTER_TRAINING}
SPLIT = {"build_annotations", "annotations"}
GATHER = {"check_clips", "find_duplicates", *SPLIT}  # the checks, and what follows from the hashes in them
CHECK = {"probe_clip", *GATHER}
ANSWERS = {"check_labels", *SPLIT, "preflight", "features", *TRAINING}


def touch(path: str):
    return lambda project: os.utime(project / path)


def delete(pattern: str):
    def change(project):
        paths = list(project.folder.glob(pattern))
        assert paths, f"{pattern} matches nothing"
        for path in paths:
            path.unlink()

    return change


def edit(path: str, old: str, new: str):
    return lambda project: project.edit(path, old, new)


def append(path: str, text: str):
    return lambda project: (project / path).write_text((project / path).read_text() + text)


def set_to(**changes):
    return lambda project: project.configure(**changes)


def first_clip(project, split: str) -> str:
    return project.json(f"results/annotations/qved_{split}.json")[0]["video"]


def all_of(*changes: Callable):
    def change(project):
        for one in changes:
            one(project)

    return change


def replace_clip(split: str, days_old: int = 0):
    """Put another clip in its place, with a date of its own, as `mv` or `cp -p` would."""

    def change(project):
        clip = first_clip(project, split)
        write_clip(ClipSpec(clip.split("/")[1], seed=(11,)), project / clip)
        make_older(clip, days_old)(project)

    return change


def make_older(path: str, days: int):
    def change(project):
        then = time.time() - days * 86400
        os.utime(project / path, (then, then))

    return change


def add_clip(project):
    write_clip(ClipSpec("squats", seed=(12,)), project / "dataset/squats/0009.mp4")
    edit_json("dataset/manifest.json", lambda clips: clips.update({"dataset/squats/0009.mp4": "squats"}))(project)
    label = {"video_path": "squats/0009.mp4", "labels": ["squats - no obvious issue"]}
    edit_json("dataset/fine_grained_labels.json", lambda labels: labels.append(label))(project)


def remove_clip(split: str):
    def change(project):
        clip = first_clip(project, split)
        (project / clip).unlink()
        edit_json("dataset/manifest.json", lambda clips: clips.pop(clip))(project)

    return change


def relabel(split: str, *, days_old: int = 0):
    """Give a clip another answer."""

    def change(project):
        clip = first_clip(project, split).removeprefix("dataset/")

        def other(labels):
            (record,) = [label for label in labels if label["video_path"] == clip]
            record["labels_descriptive"] = ["squats - go slower"]

        edit_json("dataset/fine_grained_labels.json", other)(project)
        make_older("dataset/fine_grained_labels.json", days_old)(project)

    return change


def flip_in_place(path: str):
    """Change one bit of a file, whose date is then an older one."""

    def change(project):
        content = bytearray((project / path).read_bytes())
        content[len(content) // 2] ^= 1
        (project / path).write_bytes(content)
        make_older(path, 9)(project)

    return change


def relabel_at_equal_size(project):
    labels = project / "dataset/fine_grained_labels.json"
    text = labels.read_text()
    labels.write_text(text.replace("Go deeper.", "Go slower."))
    assert labels.read_text() != text
    make_older("dataset/fine_grained_labels.json", 9)(project)


def edit_json(path: str, function: Callable):
    def change(project):
        value = project.json(path)
        function(value)
        write_json(value, project / path)

    return change


def upgrade(distribution: str):
    """Let Python see another version of a library, in front of the one that is installed."""

    def change(project):
        folder = project / f"{distribution}-99.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 99.0\n")

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


def lose_features(project):
    key = project.json("results/features/test.json")[0]["features"]
    (project / f"results/features/{key[:2]}/{key}.safetensors").unlink()
    (project / "results/features/test.json").unlink()


def add_label_of_no_clip(project):
    labels = project.json("dataset/fine_grained_labels.json")
    labels.append({"video_path": "elsewhere/9999.mp4", "labels": ["squats - no obvious issue"]})
    write_json(labels, project / "dataset/fine_grained_labels.json")


@dataclass(frozen=True)
class Row:
    name: str
    change: Callable
    rules: set[str]
    real: bool = False
    target: str = "all"
    slow: bool = False


REMARK = "\nREMARK = 1\n"
FEATURES = {"features", *TRAINING}

TABLE = [
    # Nothing that counts has changed.
    Row(
        "touched: manifest, labels, clip, base, script, module, rules, settings",
        all_of(
            touch("dataset/manifest.json"),
            touch("dataset/fine_grained_labels.json"),
            touch("dataset/squats/0001.mp4"),
            touch("mobilevideogpt/sample/base/model.safetensors"),
            touch("workflow_scripts/features.py"),
            touch("mobilevideogpt/training/finetune.py"),
            touch("rules/finetune.smk"),
            touch("config.yaml"),
        ),
        set(),
    ),
    Row(
        "remarks: in a module, a script, the rules, the settings",
        all_of(
            append("mobilevideogpt/training/finetune.py", "\n# a remark\n"),
            edit("workflow_scripts/finetune.py", '"""Rule', '"""The rule'),
            append("rules/finetune.smk", "\n# a remark\n"),
            append("config.yaml", "\n# a remark\n"),
        ),
        set(),
    ),
    Row(
        "code, settings and a library that this run does not use",
        all_of(
            append("mobilevideogpt/sample/render.py", REMARK),
            append("mobilevideogpt/hub/clips.py", REMARK),
            append("workflow_scripts/export.py", REMARK),
            set_to(dataset={"hub_clips_per_exercise": 7}),
            upgrade("matplotlib"),
        ),
        set(),
    ),
    Row("what Snakemake remembers deleted", lambda project: shutil.rmtree(project / ".snakemake/metadata"), set()),
    # Configuration.
    Row(
        "learning rates",
        set_to(finetune={"learning_rate": 5e-4, "projector_learning_rate": 1e-4}),
        TRAINING,
    ),
    Row(
        "settings of training and evaluation, for the page of the run as it is trained",
        set_to(
            finetune={"epochs": 2, "lora_r": 2},
            annotations={"seed": 1},
            features={"dtype": "float16"},
            evaluate={"max_new_tokens": 6},
        ),
        AFTER_TRAINING,
        target="report",
    ),
    Row("name of the run", set_to(run="other"), TRAINING),
    Row("balance of exercises", set_to(finetune={"balance": "exercise"}), TRAINING),
    Row("rank of LoRA", set_to(finetune={"lora_r": 2}), {"preflight", *FEATURES}),
    Row("longest answer", set_to(evaluate={"max_new_tokens": 6}), AFTER_TRAINING),
    Row("seed of the control", set_to(evaluate={"seed": 1}), AFTER_TRAINING),
    Row(
        "disk that must be free",
        set_to(preflight={"min_free_disk_gb": 0.2}),
        {"preflight", "features", "report"},
        real=True,
    ),
    Row(
        "seconds for a clip",
        set_to(integrity={"timeout_seconds": 61}),
        {*CHECK, "features"},
        real=True,
        slow=True,
    ),
    Row("number format of the features", set_to(features={"dtype": "float16"}), {"preflight", *FEATURES}),
    Row("precision of the encoders", set_to(features={"precision": "bf16"}), FEATURES),
    Row("fractions of the split", set_to(annotations={"split": {"train": 0.5, "val": 0.25, "test": 0.25}}), ANSWERS),
    Row("seed of the split", set_to(annotations={"seed": 1}), ANSWERS),
    Row(
        "pattern of recordings",
        set_to(annotations={"recording_pattern": r".*/(\d{4})_.*"}),
        {"find_duplicates", *ANSWERS},
    ),
    Row("exercises as the answers", set_to(annotations={"source": "folders"}), ANSWERS),
    Row("prompt", set_to(annotations={"prompt": "What is wrong with this {exercise}?"}), ANSWERS),
    # Data.
    Row("manifest reformatted and learning rate", reformat_and_learn_otherwise, TRAINING),
    Row(
        "label of no clip added",
        add_label_of_no_clip,
        {"check_labels", *SPLIT, "preflight", "features", "report"},
        real=True,
        slow=True,
    ),
    Row(
        "label of a test clip, in an older file",
        relabel("test", days_old=9),
        {"check_labels", *SPLIT, "features", "preflight", *AFTER_TRAINING},
        real=True,
        slow=True,
    ),
    Row("label of a training clip", relabel("train"), ANSWERS),
    Row(
        "training clip replaced by one of a date to come",
        replace_clip("train", days_old=-3650),
        {*CHECK, *FEATURES},
        real=True,
    ),
    Row(
        "test clip replaced by an older file",
        replace_clip("test", days_old=9),
        {*CHECK, "features", *AFTER_TRAINING},
        real=True,
        slow=True,
    ),
    Row(
        "clip and label replaced by files of equal size and an older date, as by a clock that was set back",
        all_of(flip_in_place("dataset/squats/0001.mp4"), relabel_at_equal_size),
        {*CHECK, *ANSWERS},
    ),
    Row("clip added", add_clip, {*CHECK, *ANSWERS}),
    Row("clip removed", remove_clip("train"), {*GATHER, *ANSWERS}),
    Row(
        "base exchanged",
        edit_json("mobilevideogpt/sample/base/generation_config.json", lambda config: config.update(top_k=3)),
        {"describe_base", "preflight", *FEATURES},
    ),
    # Code, and the libraries that it uses.
    Row(
        "frame sampling, which the decoder imports",
        append("mobilevideogpt/video/sampling.py", REMARK),
        {*CHECK, "preflight", *FEATURES},
    ),
    Row("checker", append("mobilevideogpt/video/clip_check_worker.py", REMARK), {*CHECK, *FEATURES}),
    Row(
        "selective scan, which the encoder imports",
        append("mobilevideogpt/model/kernels/scan.py", REMARK),
        {"preflight", *FEATURES},
    ),
    Row("join of labels", append("mobilevideogpt/annotations/join.py", REMARK), {"find_duplicates", *ANSWERS}),
    Row("chains of copies", append("mobilevideogpt/annotations/near_duplicates.py", REMARK), ANSWERS),
    Row(
        "search for copies",
        append("mobilevideogpt/verification/duplicates.py", REMARK),
        {*GATHER, *FEATURES},
    ),
    Row("script of the features", append("workflow_scripts/features.py", REMARK), FEATURES),
    Row("rehearsal", append("mobilevideogpt/training/rehearsal_worker.py", REMARK), {"preflight", *FEATURES}),
    Row("trainer", append("mobilevideogpt/training/trainer.py", REMARK), {"preflight", *FEATURES}),
    Row(
        "DeepSpeed's version and configuration, which are not used",
        all_of(upgrade("deepspeed"), edit("config/zero2.json", '"stage"', '"x": 1, "stage"')),
        set(),
    ),
    Row("plots of the training", append("mobilevideogpt/training/curves.py", REMARK), TRAINING),
    Row("metrics", append("mobilevideogpt/evaluation/metrics.py", REMARK), AFTER_TRAINING),
    Row(
        "report and its template",
        all_of(
            append("mobilevideogpt/evaluation/report.html.j2", "<!-- x -->"),
            append("mobilevideogpt/evaluation/report.py", REMARK),
        ),
        {"report"},
    ),
    Row("version of PEFT", upgrade("peft"), {"preflight", *FEATURES}),
    Row("version of torch", upgrade("torch"), {"check_device", "preflight", *FEATURES}),
    # What was made is gone.
    Row("report deleted", delete("results/tiny/report.html"), {"report"}),
    Row("list of the features and a file of them deleted", lose_features, {"features"}, real=True),
    Row(
        "list of the features deleted, and a setting of the evaluation changed",
        all_of(lose_features, set_to(evaluate={"max_new_tokens": 6})),
        {"features", *AFTER_TRAINING},
        real=True,
        slow=True,
    ),
    Row(
        "all lists of the features deleted, and a learning rate changed",
        all_of(delete("results/features/*.json"), set_to(finetune={"learning_rate": 5e-4})),
        FEATURES,
        real=True,
        slow=True,
    ),
    Row("copy of the annotations deleted", delete("dataset/qved_train.json"), {"annotations", "features"}, real=True),
    Row(
        "copy of the annotations deleted, and a learning rate changed",
        all_of(delete("dataset/qved_train.json"), set_to(finetune={"learning_rate": 5e-4})),
        {"annotations", *FEATURES},
    ),
    Row(
        "annotations deleted, and a learning rate changed",
        all_of(delete("results/annotations/*"), set_to(finetune={"learning_rate": 5e-4})),
        ANSWERS,
    ),
    Row(
        "what the preflight found deleted, and a learning rate changed",
        all_of(delete("results/preflight.json"), set_to(finetune={"learning_rate": 5e-4})),
        {"preflight", *FEATURES},
    ),
    Row("samples of the run deleted", delete("results/tiny/samples/val.json"), TRAINING),
    Row("adapter deleted", delete("results/tiny/adapter/adapter_model.safetensors"), TRAINING, real=True, slow=True),
    Row(
        "predictions and the page deleted",
        all_of(delete("results/tiny/predictions.jsonl"), delete("results/tiny/report.html")),
        AFTER_TRAINING,
    ),
]


def row_to_test(row: Row):
    return pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else [])


@pytest.mark.parametrize("row", list(map(row_to_test, TABLE)))
def test_a_change_reruns_what_follows_from_it_and_nothing_else(row, trained):
    row.change(trained)
    if not row.real:
        outcome = trained.snakemake("--cores", "1", "-n", row.target)
        assert outcome.planned == row.rules
        if row.target == "report":
            assert (
                "run tiny was trained with annotations.seed 42, features.dtype float32, finetune.epochs 1"
                in outcome.text
            )
        return
    assert trained.run().finished == row.rules
    assert trained.snakemake("-n").is_settled


def test_a_copy_that_only_its_frames_show_is_one_recording_and_stays_in_one_split(trained):
    """The check of its clip finds it, after the labels were checked; the split before may have parted the two."""
    clip = first_clip(trained, "test")
    name = "unlike any other.mkv"
    with av.open(str(trained / clip)) as source, av.open(str(trained / f"dataset/squats/{name}"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    labels = trained.json("dataset/fine_grained_labels.json")
    (label,) = [label for label in labels if clip.endswith(label["video_path"])]
    write_json([*labels, {**label, "video_path": name}], trained / "dataset/fine_grained_labels.json")
    edit_json("dataset/manifest.json", lambda clips: clips.update({f"squats/{name}": clips[clip]}))(trained)
    outcome = trained.run("annotations")
    assert outcome.finished == {"check_labels", *CHECK}
    lists = (trained.json(f"results/annotations/qved_{split}.json") for split in ("train", "val", "test"))
    samples = [sample for samples in lists for sample in samples]
    split_of = {sample["video"]: sample["split"] for sample in samples}
    assert split_of[f"dataset/squats/{name}"] == split_of[clip]
    (found,) = [
        row for row in trained.json("results/annotations/summary.json")["findings"] if row["code"] == "same_frames"
    ]
    assert name in found["items"][0] and clip in found["items"][0] and "1 pair of clips whose frames" in outcome.text


def test_many_clips_are_checked_and_encoded_in_shards_that_compute_only_what_changed(trained):
    report = trained.json("results/verify/report.json")
    trained.configure(integrity={"jobs_a_clip_up_to": 0}, features={"shards": 16})
    assert trained.run("results/verify/report.json").finished == {"probe_shard", "check_clips"}
    assert trained.json("results/verify/report.json") == report
    replace_clip("train", days_old=9)(trained)
    clip = first_clip(trained, "train")
    assert {"probe_shard", "check_clips", "features_shard", "features"} <= trained.run("features").finished
    log = (trained / f"results/logs/probe_shard/{shard_of(clip, 1)}.log").read_text()
    assert "1 of" in log and "new or changed" in log
    logs = {path.stem: path.read_text() for path in trained.folder.glob("results/logs/features_shard/*.log")}
    assert [shard for shard, log in logs.items() if "0 to compute" not in log] == [shard_of(clip, 1)]
    assert len(logs) > 2 and "0 to compute" in (trained / "results/logs/features.log").read_text()
    digests = {one["video"]: one["digest"] for one in report["clips"]}
    found = {one["video"]: one["digest"] for one in trained.json("results/verify/report.json")["clips"]}
    assert [video for video in found if found[video] != digests[video]] == [clip]
    touch("dataset/squats/0001.mp4")(trained)
    outcome = trained.run("features")
    assert "preflight" not in outcome.finished
    assert outcome.err.count("(Rule: features_shard)") == 1, "a shard depends on other clips"
    log = trained / f"results/logs/probe_shard/{shard_of('dataset/squats/0001.mp4', 1)}.log"
    assert "0 of" in log.read_text(), "a clip that was touched is read, not decoded"
    shutil.rmtree(trained / ".snakemake/metadata")
    replace_clip("train")(trained)
    finished = trained.run("results/verify/report.json").finished
    assert {"probe_shard", "check_clips"} <= finished, "a clip is newer than its check, whatever Snakemake remembers"
