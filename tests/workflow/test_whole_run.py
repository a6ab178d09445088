import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SPLITS = ("train", "val", "test")


def test_one_command_goes_from_clips_to_adapter_metrics_and_report(whole_run):
    project, outcome = whole_run
    assert outcome.finished == {
        *("check_device", "check_labels", "describe_base", "preflight", "probe_clip", "check_clips", "find_duplicates"),
        *("build_annotations", "annotations", "features", "finetune", "evaluate", "report"),
    }
    ended = {rule: outcome.err.index(f"(Rule: {rule})") for rule in outcome.finished}
    first = max(ended["check_labels"], ended["check_device"])
    assert first < ended["probe_clip"] < ended["build_annotations"] < ended["describe_base"], "cheapest first"
    assert ended["preflight"] < ended["features"], "errors come late"
    assert (project / "results/tiny/adapter/adapter_model.safetensors").stat().st_size > 0
    used = yaml.safe_load((project / "results/tiny/config.yaml").read_text())
    assert used["annotations"]["split"] == {"train": 0.6, "val": 0.2, "test": 0.2}
    assert used["finetune"]["lora_r"] == 4
    metrics = project.json("results/tiny/metrics.json")
    for subject in ("base", "finetuned", "mismatched_video"):
        assert {"n", "exercise_accuracy", "feedback_accuracy", "rougeL"} <= metrics[subject].keys()
    assert "shown_exercise_accuracy" in metrics["mismatched_video"]
    lines = [json.loads(line) for line in (project / "results/tiny/predictions.jsonl").read_text().splitlines()]
    assert [line["video"] for line in lines] == [r["video"] for r in project.json("results/annotations/qved_test.json")]
    asked = {"video", "prompt", "reference", "base", "finetuned", "mismatched_video", "shown_video"}
    assert all(asked <= line.keys() for line in lines)
    page = (project / "results/tiny/report.html").read_text()
    assert all(line["video"] in page for line in lines)
    assert "results/tiny/report.html" in outcome.err, "the end says where the page is"


def test_every_clip_stands_in_one_split_and_its_prompt_names_the_exercise(whole_run):
    project, _ = whole_run
    rows = [row for split in SPLITS for row in project.json(f"results/annotations/qved_{split}.json")]
    assert sorted(row["video"] for row in rows) == sorted(project.json("dataset/manifest.json"))
    for row in rows:
        exercise = Path(row["video"]).parent.name.replace("_", " ")
        assert f"Analyze this {exercise} video" in row["conversations"][0]["value"]


def test_a_second_run_has_nothing_to_do(trained):
    before = {path: (trained / path).stat().st_mtime_ns for path in trained.files()}
    assert trained.snakemake("--cores", "1").is_settled
    assert {path: (trained / path).stat().st_mtime_ns for path in trained.files()} == before


def test_no_temporary_file_stays_after_a_run(whole_run):
    left = {name for name in whole_run[0].files() if "/." in name}
    assert {Path(name).name for name in left} <= {".lock", ".lock-holder.json"}


def test_infer_prints_the_answer_and_nothing_else_on_standard_output_whatever_the_settings_say_now(trained):
    trained.edit("config.yaml", "max_new_tokens: 8", "max_new_tokens: 12")
    trained.configure(finetune={"epochs": 3})
    (trained / "dataset/fine_grained_labels.json").unlink()
    shutil.rmtree(trained / "results/features")
    outcome = trained.snakemake("--cores", "1", "infer", "--config", "video=dataset/squats/0001.mp4")
    assert outcome.status == 0, outcome.text
    assert outcome.finished == {"infer"}
    assert len(outcome.out.splitlines()) == 1 and outcome.out.strip(), outcome.out
    assert "finetune.epochs 1" in outcome.err and "knows rendered figures only" in outcome.err


def test_export_writes_a_checkpoint_of_the_official_layout(trained):
    assert trained.run("export").finished == {"export"}
    from safetensors import safe_open

    def names(path):
        with safe_open(path, framework="pt") as file:
            return set(file.keys())

    folder = trained / "results/tiny/export"
    assert names(folder / "model.safetensors") == names(trained / "mobilevideogpt/sample/base/model.safetensors")
    assert (folder / "config.json").is_file() and (folder / "tokenizer_config.json").is_file()


@pytest.mark.parametrize("arguments", [("--dag",), ("finetune", "--dag")])
@pytest.mark.parametrize("state", ["without_data", "fresh", "trained"])
def test_the_graph_is_alone_on_standard_output(state, arguments, request):
    project = request.getfixturevalue(state)
    outcome = project.snakemake(*arguments)
    assert outcome.status == 0, outcome.text
    assert outcome.out.startswith("digraph") and outcome.out.rstrip().endswith("}")
    # braces pair up and each line is an element of the graph: nothing is mixed in
    assert outcome.out.count("{") == outcome.out.count("}") == 1
    element = re.compile(r"\s*(digraph .*\{|graph\[.*;|node\[.*;|edge\[.*;|\d+\[.*;|\d+ -> \d+|\}|)$")
    assert [line for line in outcome.out.splitlines() if not element.match(line.rstrip())] == []
    rules = set(re.findall(r'label = "(\w+)', outcome.out))
    assert {"finetune", "features", "preflight", "annotations"} <= rules
    assert ("report" in rules) == ("finetune" not in arguments)


TORCH_ENDS_IT = """
import os, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "transformers", "av", "cv2", "deepspeed", "peft", "numba", "matplotlib", "sklearn"):
            os.write(2, f"imports {name}\\n".encode())
            os._exit(97)
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize("state", ["without_data", "fresh", "trained"])
def test_a_dry_run_imports_nothing_slow(state, request, tmp_path):
    project = request.getfixturevalue(state)
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(TORCH_ENDS_IT)
    python = [sys.executable, "-c", "import torch"]
    refused = subprocess.run(python, env={"PYTHONPATH": str(tmp_path / "hook")}, capture_output=True)
    assert refused.returncode == 97, "the hook itself does not work"
    outcome = project.snakemake("--cores", "1", "-n", before=tmp_path / "hook")
    assert outcome.status == 0, outcome.text


def test_verify_needs_no_option_and_tells_about_the_gpu(fresh):
    outcome = fresh.snakemake("verify")
    assert outcome.status == 0, outcome.text
    line = next(line for line in outcome.text.splitlines() if re.match(r"ok\s+GPU ", line))
    assert re.search(r"none found|GiB free", line)
    again = fresh.snakemake("verify")
    assert again.status == 0 and again.finished == {"verify"} and "GPU" in again.text, again.text


def test_verify_fails_where_a_clip_is_missing_and_says_which(fresh):
    (fresh / "dataset/squats/0002.mp4").unlink()
    outcome = fresh.snakemake("verify")
    assert outcome.status != 0
    assert "missing: dataset/squats/0002.mp4" in outcome.text
    assert "Traceback" not in outcome.text and "MissingInput" not in outcome.text
    (record,) = [r for r in fresh.json("results/verify/report.json")["clips"] if r["verdict"] == "error"]
    assert record["video"] == "dataset/squats/0002.mp4"


def test_verify_on_the_sample_finds_all_well(without_data):
    outcome = without_data.snakemake("verify")
    assert outcome.status == 0, outcome.text
    assert "30 ok" in outcome.text


def test_manifest_is_made_from_clips_and_labels_and_grows_with_them(fresh):
    known = fresh.json("dataset/manifest.json")
    (fresh / "dataset/manifest.json").unlink()
    assert fresh.snakemake("manifest", "--cores", "1").status == 0
    assert fresh.json("dataset/manifest.json") == known
    (fresh / "dataset/manifest.json").write_text('{\n"squats/0001.mp4": "squats"\n}')
    unused = fresh.snakemake("-n", "finetune")
    assert "7 clips in dataset/ are in no manifest: dataset/squats/0002.mp4, " in unused.text
    assert fresh.snakemake("manifest", "--cores", "1").status == 0
    assert (fresh / "dataset/manifest.json").read_text().startswith('{\n"squats/0001.mp4": "squats"\n')
    assert len(fresh.json("dataset/manifest.json")) == 8
    mistyped = fresh.snakemake("-n", "finetun")
    assert mistyped.status != 0 and "did you mean `snakemake finetune`?" in mistyped.text


def test_the_rules_are_clean_for_snakemakes_linter(clone):
    outcome = clone.snakemake("--lint")
    assert outcome.status == 0, outcome.text


def test_the_rules_are_formatted(clone):
    snakefmt = shutil.which("snakefmt", path=Path(sys.executable).parent)
    assert snakefmt, "snakefmt is among the development requirements"
    done = subprocess.run([snakefmt, "--check", "Snakefile", "rules"], cwd=clone.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
