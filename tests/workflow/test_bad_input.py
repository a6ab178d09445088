"""What is wrong in the input ends the run with one message in plain words, and leaves nothing half-written."""

import json

import pytest

from mobilevideogpt.data.features import FeatureStore


def write(path: str, text: str):
    def change(project):
        (project / path).write_text(text)

    return change


def remove(path: str):
    return lambda project: (project / path).unlink()


def add_to_manifest(clip: str):
    def change(project):
        clips = project.json("dataset/manifest.json")
        (project / "dataset/manifest.json").write_text(json.dumps({**clips, clip: "squats"}))

    return change


def drop_label(project):
    labels = project.json("dataset/fine_grained_labels.json")
    (project / "dataset/fine_grained_labels.json").write_text(json.dumps(labels[1:]))


def empty_label(project):
    labels = project.json("dataset/fine_grained_labels.json")
    labels[0] |= {"labels": [], "labels_descriptive": []}
    (project / "dataset/fine_grained_labels.json").write_text(json.dumps(labels))


def label_without_path(project):
    labels = project.json("dataset/fine_grained_labels.json")
    del labels[2]["video_path"]
    (project / "dataset/fine_grained_labels.json").write_text(json.dumps(labels))


def truncate_clip(project):
    clip = project / "dataset/squats/0002.mp4"
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])


def keep_two_clips(project):
    clips = project.json("dataset/manifest.json")
    (project / "dataset/manifest.json").write_text(json.dumps({clip: "squats" for clip in list(clips)[:2]}))


def text_for_a_number(project):
    project.edit("config.yaml", "learning_rate: 0.001", "learning_rate: fast")


def mistyped_key(project):
    project.edit("config.yaml", "learning_rate: 0.001", "learning_rat: 0.001")


MANIFEST, LABELS = "dataset/manifest.json", "dataset/fine_grained_labels.json"
CASES = {
    # name: (change, target, what the message holds, what must not be made)
    "manifest malformed": (write(MANIFEST, '{"a": '), "all", (MANIFEST, "not valid JSON", "`snakemake manifest`"), ""),
    "manifest is a list": (write(MANIFEST, "[1]"), "all", (MANIFEST, "has no path; of a list, each"), ""),
    "manifest empty": (write(MANIFEST, "{}"), "all", (MANIFEST, "no clip is left", "add entries"), ""),
    "manifest missing": (remove(MANIFEST), "all", (MANIFEST, "`snakemake manifest`"), ""),
    "manifest missing, annotations": (remove(MANIFEST), "annotations", (MANIFEST, "`snakemake manifest`"), ""),
    "path leaves": (add_to_manifest("../x/0001.mp4"), "all", (MANIFEST, "../x/0001.mp4", "copy the clip there"), ""),
    "braces in a path": (
        add_to_manifest("dataset/squats/{a}.mp4"),
        "all",
        (MANIFEST, "{a}.mp4", "rename the clip"),
        "",
    ),
    "labels missing": (
        remove(LABELS),
        "annotations",
        ("there is no", LABELS, "`snakemake manifest` writes"),
        "results/annotations",
    ),
    "labels malformed": (
        write(LABELS, "[{"),
        "annotations",
        (LABELS, "not valid JSON", "write it again"),
        "results/annotations",
    ),
    "record without path": (
        label_without_path,
        "annotations",
        (f"{LABELS}, entry 3", "no video_path", "expected"),
        "results/annotations",
    ),
    "clip without label": (
        drop_label,
        "annotations",
        ("dataset/squats/0001.mp4 (no entry)", "label file", "dataset.exclude"),
        "results/annotations",
    ),
    "label without text": (
        empty_label,
        "annotations",
        ("dataset/squats/0001.mp4", f"{LABELS}, entry 1 is empty", "dataset.exclude"),
        "results/annotations",
    ),
    "truncated clip": (
        truncate_clip,
        "finetune",
        ("dataset/squats/0002.mp4", "dataset.exclude", "1 of 8 clips cannot be used"),
        ("results/features", "results/base", "results/preflight"),  # known before any download
    ),
    "empty split": (
        keep_two_clips,
        "annotations",
        ("annotations.split", "leave none for it", "add clips"),
        "results/annotations",
    ),
    "line of splits.csv": (
        write("dataset/splits.csv", "clip,split\nsquats/0001.mp4,train\nsquats/0002.mp4,dev\n"),
        "annotations",
        ("dataset/splits.csv:3", "'dev' is not a split", "train, val or test"),
        "results/annotations",
    ),
    "split of the labels that is none": (
        lambda project: project.configure(annotations={"split_source": "labels"}),
        "annotations",
        ("annotations.split_source is labels", "8 clips in the label file is: none", "auto or fractions"),
        "results/annotations",
    ),
    "excluded clip unknown": (
        lambda project: project.configure(dataset={"exclude": ["squats/7777.mp4"]}),
        "all",
        ("dataset.exclude", "squats/7777.mp4", "correct or remove it"),
        "",
    ),
    "prompt with another placeholder": (
        lambda project: project.configure(annotations={"prompt": "What does {person} do?"}),
        "annotations",
        ("annotations.prompt", "{person}", "only {exercise}"),
        "results/annotations",
    ),
    "text for a number": (text_for_a_number, "all", ("finetune.learning_rate", "'fast'", "Peak learning rate"), ""),
    "key mistyped": (mistyped_key, "all", ("finetune", "'learning_rat'", "did you mean 'learning_rate'"), ""),
    "split of another sum": (
        lambda project: project.configure(annotations={"split": {"train": 0.9, "val": 0.2, "test": 0.2}}),
        "all",
        ("annotations.split", "add up to 1.3", "config.yaml"),
        "",
    ),
    "batch that processes cannot share": (
        lambda project: project.configure(finetune={"processes": 3}),
        "all",
        ("finetune.batch_size", "3 processes", "choose a multiple"),
        "",
    ),
    "no GPU and none allowed": (
        lambda project: project.configure(preflight={"allow_cpu": False}),
        "finetune",
        ("would not run on this machine", "preflight.allow_cpu", "--configfile config/tiny.yaml"),
        ("results/preflight", "results/features", "results/verify", "results/base"),
    ),
    "run named like a folder": (
        lambda project: project.configure(run="features"),
        "all",
        ("run: features", "choose another"),
        "",
    ),
    "clip to look at missing": (
        lambda project: project.configure(video="gone.mp4"),
        "infer",  # of a project without an adapter: nothing is trained first
        ("gone.mp4: there is no such clip", "video=..."),
        "",
    ),
    "run not trained": (
        lambda project: project.configure(video="dataset/squats/0001.mp4"),
        "infer",
        ("results/tiny: has not been trained", "run `snakemake finetune`", "Trained runs there: none"),
        "",
    ),
    "run named with a slash": (
        lambda project: project.configure(run="a/b"),
        "all",
        ("run: 'a/b'", "Letters, digits"),
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_message_names_file_record_and_remedy(name, fresh):
    change, target, words, absent = CASES[name]
    change(fresh)
    before = fresh.files()
    outcome = fresh.snakemake("--cores", "1", target)
    assert outcome.status != 0
    for word in words:
        assert word in outcome.text, f"{word!r} is not in the message"
    assert "Traceback" not in outcome.text
    assert not list((fresh / ".snakemake/locks").glob("*")), "the next run finds a lock"
    made = fresh.files() - before
    assert not [path for path in made if "/." in path], "temporary files stay"
    assert not [path for path in made if path.startswith(absent or "results/")], "something is half-written"


@pytest.mark.parametrize("name", ["manifest malformed", "manifest missing", "path leaves", "labels missing"])
def test_bad_data_after_a_finished_run_is_not_taken_for_up_to_date(name, trained):
    change, _, words, _ = CASES[name]
    change(trained)
    outcome = trained.snakemake("--cores", "1")
    assert outcome.status != 0
    assert all(word in outcome.text for word in words)
    assert "Traceback" not in outcome.text


def test_numbers_that_yaml_reads_as_text_are_taken(fresh):
    fresh.edit("config.yaml", "learning_rate: 0.001", "learning_rate: 1e-3")
    assert fresh.snakemake("-n").status == 0


def test_a_foreign_annotation_file_is_set_aside_and_never_used(fresh):
    foreign = '[{"video": "dataset/squats/0001.mp4", "conversations": []}]'
    (fresh / "dataset/qved_train.json").write_text(foreign)
    outcome = fresh.run("annotations")
    assert (fresh / "dataset/qved_train.json.set-aside-1").read_text() == foreign
    assert "set aside as dataset/qved_train.json.set-aside-1" in outcome.text
    assert fresh.json("dataset/qved_train.json") == fresh.json("results/annotations/qved_train.json")
    assert fresh.snakemake("--cores", "1", "annotations").is_settled
    (fresh / "dataset/qved_feedbacks.json").write_text(foreign)
    fresh.configure(annotations={"seed": 1})
    fresh.run("annotations")
    assert (fresh / "dataset/qved_feedbacks.json.set-aside-1").read_text() == foreign
    assert not (fresh / "dataset/qved_train.json.set-aside-2").exists(), "its own files are not foreign"
    (fresh / "dataset/qved_train.json").write_text(foreign)
    (fresh / "dataset/qved_val.json").unlink()
    assert fresh.run("annotations").finished == {"annotations"}
    assert (fresh / "dataset/qved_train.json.set-aside-2").read_text() == foreign
    assert fresh.json("dataset/qved_val.json") == fresh.json("results/annotations/qved_val.json")
    assert fresh.snakemake("--cores", "1", "annotations").is_settled


def test_questions_of_the_data_set_can_be_what_is_answered(fresh):
    clips = list(fresh.json("dataset/manifest.json"))
    outcome = fresh.snakemake("annotations", "--config", "annotations={source: questions}")
    assert outcome.status != 0 and "there is no dataset/questions.json" in outcome.text
    asked = {"query": ["Deep?", "Fast?"], "response": ["Yes.", "No."]}
    records = [{"video_path": clip, "fine_grain": asked} for clip in clips[1:]]
    (fresh / "dataset/questions.json").write_text(json.dumps(records))
    fresh.run("annotations", "--config", "annotations={source: questions}")
    rows = [row for split in ("train", "val", "test") for row in fresh.json(f"results/annotations/qved_{split}.json")]
    assert len(rows) == 2 * (len(clips) - 1)
    assert {row["conversations"][0]["value"] for row in rows} == {"<video>\nDeep?", "<video>\nFast?"}
    [left_out] = fresh.json("results/annotations/summary.json")["findings"]
    assert left_out["items"] == [f"{clips[0]} (no entry)"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["deleted", "cut"])
def test_a_lost_feature_file_is_named_and_the_same_command_brings_it_back(damage, trained):
    sample = trained.json("results/features/train.json")[0]
    clip, key = sample["video"], sample["features"]
    file = trained / f"results/features/{key[:2]}/{key}.safetensors"
    if damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100])
    trained.configure(finetune={"learning_rate": 5e-4})
    outcome = trained.snakemake("--cores", "1", "finetune")
    assert outcome.status != 0 and "Traceback" not in outcome.text
    assert (clip in outcome.text or key in outcome.text) and "the same command again" in outcome.text
    assert trained.run("finetune").finished == {"features", "finetune"}
    assert FeatureStore(trained / "results/features").read(key)


@pytest.mark.slow
def test_a_mended_clip_is_taken_up_by_the_same_command(fresh):
    clip = fresh / "dataset/squats/0002.mp4"
    whole = clip.read_bytes()
    truncate_clip(fresh)
    assert fresh.snakemake("--cores", "1", "features").status != 0
    clip.write_bytes(whole)
    checked = {"probe_clip", "check_clips", "find_duplicates", "describe_base", "preflight"}
    assert fresh.run("features").finished == {*checked, "build_annotations", "annotations", "features"}
