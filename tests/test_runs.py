"""The runs that a comparison reads."""

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.runs import LONGEST_NAME, MOST_RUNS, comparison_name, files_to_compare


def test_the_name_of_a_comparison_tells_other_runs_and_another_order_apart():
    names = [comparison_name(runs) for runs in (["a", "b"], ["b", "a"], ["a", "b", "c"], ["a_vs_b", "c"], ["a-b", "c"])]
    assert names[0] == "a+b" and len({*names}) == len(names)


def test_a_long_name_is_bounded_and_still_tells_comparisons_apart():
    long = [f"{letter * 100}" for letter in "abc"]
    names = {comparison_name(runs) for runs in (long, long[:2], [*long[:2], "d"])}
    assert len(names) == 3 and all(len(name) <= LONGEST_NAME for name in names)


@pytest.fixture
def results(tmp_path):
    for run in "ab":
        (tmp_path / run).mkdir()
        for name in ("train.json", "config.yaml", "log.jsonl", "metrics.json", "predictions.jsonl"):
            (tmp_path / run / name).write_text(run)
    (tmp_path / "features").mkdir()
    (tmp_path / "features/train.json").write_text("[]")  # not a run
    return tmp_path


def test_the_digests_change_with_a_file_and_missing_samples_are_none(results):
    before = files_to_compare(results, ["a", "b"])
    assert before[f"{results}/a/samples/train.json"] is None and len(before) == 14
    (results / "b/metrics.json").write_text("x")
    after = files_to_compare(results, ["a", "b"])
    assert [path for path in after if after[path] != before[path]] == [f"{results}/b/metrics.json"]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "name at least two.* are: a, b"),
        (["a"], "name at least two"),
        (["a", "a"], "a is named twice"),
        (["a", "c"], "there is no .*/c/; check the name"),
        ([f"r{i}" for i in range(MOST_RUNS + 1)], f"compare at most {MOST_RUNS}"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(results, runs, message):
    with pytest.raises(InputError, match=message):
        files_to_compare(results, runs)


def test_each_problem_of_each_run_is_named_with_its_command(results):
    (results / "a/metrics.json").unlink()
    (results / "b/train.json").unlink()
    with pytest.raises(InputError) as error:
        files_to_compare(results, ["a", "b"])
    text = str(error.value)
    assert "a has not been evaluated" in text and "`snakemake evaluate --config run=a`, with the settings in" in text
    assert "b has not been trained" in text and "`snakemake finetune --config run=b`" in text
