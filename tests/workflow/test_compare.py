"""`snakemake compare`: it reads what is there, and neither trains nor evaluates."""

import json
import shutil

import pytest

RUNS = ("--config", "runs=[tiny,other]")


@pytest.fixture
def two_runs(trained):
    """The project after a whole run, with a copy of the run that answers otherwise."""
    shutil.copytree(trained / "results/tiny", trained / "results/other")
    answer_with("good form")(trained)
    return trained


def answer_with(text):
    def change(project):
        path = project / "results/other/predictions.jsonl"
        rows = [json.loads(line) | {"finetuned": text} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return change


def test_compare_is_one_job_that_writes_a_page_and_json(two_runs):
    two_runs.configure(finetune={"learning_rate": 5e-4})  # tiny is stale now, and is compared as it is
    before = {name: (two_runs / name).read_bytes() for name in two_runs.files() if name.startswith("results/tiny/")}
    assert two_runs.snakemake("--cores", "1", "-n", "compare", *RUNS).planned == {"compare"}
    outcome = two_runs.run("compare", *RUNS)
    assert outcome.finished == {"compare"}
    assert "Comparison: results/compare/tiny+other.html" in outcome.out and "tiny and other" in outcome.out
    page = (two_runs / "results/compare/tiny+other.html").read_text()
    record = two_runs.json("results/compare/tiny+other.json")
    assert [run["name"] for run in record["runs"]] == ["tiny", "other"]
    assert record["samples"]["same_split"] and not record["samples"]["training_unknown"]
    assert "data:image/jpeg" in page and record["differing"][0]["video"] in page
    assert {name: (two_runs / name).read_bytes() for name in before} == before
    assert two_runs.snakemake("--cores", "1", "compare", *RUNS).is_settled
    answer_with("knees in")(two_runs)
    assert two_runs.run("compare", *RUNS).finished == {"compare"}
    assert "knees in" in (two_runs / "results/compare/tiny+other.html").read_text()


@pytest.mark.parametrize(
    ("given", "lost", "messages"),
    [
        ((), None, ("name at least two", "runs=[a,b]", "are: other, tiny")),
        (("--config", "runs=[tiny]"), None, ("name at least two", "are: other, tiny")),
        (("--config", "runs=[tiny,tiny]"), None, ("tiny is named twice",)),
        (("--config", "runs=tiny"), None, ("'tiny' is not of type 'array'", "runs=[a,b]")),
        (("--config", "runs=[tiny,gone]"), None, ("there is no results/gone/", "are: other, tiny")),
        (
            RUNS,
            "results/other/predictions.jsonl",
            ("other has not been evaluated", "other/predictions.jsonl", "`snakemake evaluate --config run=other`"),
        ),
        (RUNS, "results/other/train.json", ("other has not been trained", "`snakemake finetune --config run=other`")),
    ],
    ids=["none", "one", "twice", "text", "unknown", "not evaluated", "not trained"],
)
def test_runs_that_cannot_be_compared_are_named_before_anything_runs(two_runs, given, lost, messages):
    if lost:
        (two_runs / lost).unlink()
    outcome = two_runs.snakemake("--cores", "1", "compare", *given)
    assert outcome.status != 0 and not outcome.finished
    assert all(message in outcome.text for message in messages), outcome.text
    assert "Traceback" not in outcome.text
    assert not (two_runs / "results/compare").exists()


def test_a_damaged_run_is_named_with_the_remedy(two_runs):
    with (two_runs / "results/other/predictions.jsonl").open("a") as file:
        file.write('{"video": ')
    outcome = two_runs.snakemake("--cores", "1", "compare", *RUNS)
    assert outcome.status != 0
    assert "results/other/predictions.jsonl: not valid JSON lines" in outcome.text and "--forcerun" in outcome.text
