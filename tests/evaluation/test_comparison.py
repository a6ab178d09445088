"""The comparison of runs, from small made-up run folders."""

import json
import re

import pytest
import yaml

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.comparison import compare_runs
from mobilevideogpt.evaluation.comparison_page import write_comparison
from mobilevideogpt.evaluation.differences import data_of, settings_that_differ
from mobilevideogpt.evaluation.evaluated_run import read_run
from mobilevideogpt.evaluation.metrics import score
from mobilevideogpt.evaluation.scoring import task_of
from mobilevideogpt.files import json_digest, write_json, write_text
from tests.evaluation.rows import samples_of
from tests.evaluation.test_report import Page

PROMPT = "<video>\nWhat is it?"
NAMES = ("squats", "lunges", "push ups")
RIGHT = {name: f"{name} - good form" for name in NAMES}


def rows_of(answers, *, prompt=PROMPT, start=1, **more):
    """Predictions: one clip an answer, the exercises in turn; True is the right answer, False another exercise's."""
    rows = []
    for i, given in enumerate(answers):
        exercise = NAMES[i % 3]
        text = {True: RIGHT[exercise], False: RIGHT[NAMES[(i + 1) % 3]]}.get(given, given)
        clip = {"video": f"dataset/{exercise}/{start + i}.mp4", "exercise": exercise, "prompt": prompt}
        rows.append(clip | {"reference": RIGHT[exercise], "base": "", "finetuned": text, "cut": {}} | more)
    return rows


def train_samples(first=900, n=3):
    """Training samples of clips that no test split has."""
    return [
        {"video": row["video"], "group": row["video"], **sample}
        for row, sample in zip(
            rows_of([True] * n, start=first), samples_of(rows_of([True] * n, start=first)), strict=True
        )
    ]


@pytest.fixture
def make_run(tmp_path):
    """Write the folder of a run, and return it."""

    def make(name, rows, *, train=None, val=(), finetune=None, **record):
        folder = tmp_path / "results" / name
        train = train_samples() if train is None else train
        settings = {"learning_rate": 1e-4, "epochs": 3} | (finetune or {})
        losses = {"val_first": 2.5, "val_last": 1.5}
        write_json(
            {"run": name, "digest": json_digest([name, settings]), "digests": {"settings": json_digest(settings)}}
            | {"base": "checkpoints/base", "epochs": 2.0, "steps": 4, "losses": losses, "kept": "best"}
            | {"adapters": {"best": {"val_loss": 1.5}}, "this_run": {"seconds": 100.0}, "versions": {"torch": "2.13.0"}}
            | record,
            folder / "train.json",
        )
        scores = score(rows, "finetuned", task_of(rows, train))
        write_json(
            {"finetuned": scores, "settings": {"max_new_tokens": 8}, "tokens_per_second": {"finetuned": 30.0}}
            | {"conclusion": {"headline": f"The model of {name} learned", "learned": True}},
            folder / "metrics.json",
        )
        write_text("".join(json.dumps(row) + "\n" for row in rows), folder / "predictions.jsonl")
        log = [{"step": 0, "eval_loss": 2.5}, {"step": 2, "loss": 2.0}, {"step": 4, "loss": 1.0, "eval_loss": 1.5}]
        write_text("".join(json.dumps(row) + "\n" for row in log), folder / "log.jsonl")
        write_text(yaml.safe_dump({"run": name, "finetune": settings, "evaluate": {"seed": 0}}), folder / "config.yaml")
        if train is not False:
            write_json(train, folder / "samples/train.json")
            write_json(list(val), folder / "samples/val.json")
        return folder

    return make


@pytest.fixture
def compare(make_run):
    """Compare runs that are given by name with what `make_run` takes."""

    def run(**runs):
        return compare_runs([read_run(make_run(name, **options)) for name, options in runs.items()])

    return run


@pytest.fixture
def page_of(make_run, tmp_path):
    """Write the page of such runs; return its HTML, its text, the JSON file and the lines for the terminal."""

    def write(**runs):
        page, record = tmp_path / "results/compare/page.html", tmp_path / "results/compare/page.json"
        found = [read_run(make_run(name, **options)) for name, options in runs.items()]
        lines = write_comparison(page, record, runs=found, results=tmp_path / "results", project=tmp_path)
        html = page.read_text(encoding="utf-8")
        return html, re.sub(r"\s+", " ", Page(html).text), json.loads(record.read_text(encoding="utf-8")), lines

    return write


def test_a_run_that_is_better_on_all_clips_is_called_better(compare):
    found = compare(a={"rows": rows_of([False] * 8)}, b={"rows": rows_of([True] * 8)})
    assert found.headline == "b is better than a" and found.tone == "good"
    (pair,) = found.pairs
    assert (pair.tests[0].found.better, pair.tests[0].found.worse) == (8, 0)
    assert pair.tests[0].p == pytest.approx(2 / 2**8)  # McNemar's exact test
    assert "8 better, 0 worse" in pair.sentences[0]


def test_the_order_of_the_names_does_not_change_which_run_is_better(compare):
    assert compare(b={"rows": rows_of([True] * 8)}, a={"rows": rows_of([False] * 8)}).headline == "b is better than a"


def test_too_few_differences_are_called_open_with_the_clips_that_would_tell(compare):
    found = compare(a={"rows": rows_of([True, False] * 3)}, b={"rows": rows_of([True] * 6)})
    assert found.headline == "The test cannot tell a and b apart" and found.tone == "open"
    assert found.pairs[0].better is None
    assert re.search(r"About \d+ more test clips would tell", found.pairs[0].sentences[-1])


def test_equal_answers_on_many_clips_exclude_a_difference(compare):
    rows = rows_of([True, True, False] * 30)
    found = compare(a={"rows": rows}, b={"rows": rows})
    assert found.pairs[0].better == "" and found.headline == "a and b differ by less than 10 points"
    assert not found.differing


def test_p_values_are_adjusted_for_the_number_of_pairs(compare):
    """6 of 6 is significant for one pair (p = 0.031), not for one of three."""
    runs = {"a": {"rows": rows_of([False] * 6)}, "b": {"rows": rows_of([True] * 6)}}
    assert compare(**runs).pairs[0].better == "b"
    found = compare(**runs, c={"rows": rows_of([True, False, True, False, True, True])})
    assert found.pairs[0].tests[0].p == pytest.approx(3 * 2 / 2**6)
    assert found.tone == "open" and found.headline == "The test cannot tell the 3 runs apart"
    # 3 * 2 / 2**7 is below 5 %: 7 clips that all differ would tell.
    assert "About 1 more test clip would tell: 7 in all" in found.pairs[0].sentences[-1]


def test_of_three_runs_one_can_be_the_best(compare):
    bad = {"rows": rows_of([False] * 12)}
    found = compare(a=bad, b={"rows": rows_of([True] * 12)}, c=bad)
    assert found.headline == "b is better than each of the others" and found.tone == "mixed"


def test_of_many_pairs_the_decided_ones_are_said(compare):
    bad = {"rows": rows_of([False] * 14)}
    found = compare(best={"rows": rows_of([True] * 14)}, **dict.fromkeys("abcd", bad))
    assert len(found.pairs) == 10 and found.headline == "best is better than each of the others"
    assert len(found.sentences) == 5 and all("against best" in sentence for sentence in found.sentences[:4])
    assert found.sentences[-1] == "Of 10 pairs, 4 are told apart, 0 differ by less than 10 points, and 6 are open."


def test_clips_of_one_group_count_once(compare):
    runs = {name: {"rows": rows_of([right] * 8, group="me")} for name, right in (("a", False), ("b", True))}
    found = compare(**runs)
    assert found.pairs[0].tests[0].found.groups == 1 and found.pairs[0].better is None


def test_groups_of_either_run_are_joined(compare):
    alone, together = rows_of([False] * 8), rows_of([True] * 8, group="me")
    assert compare(a={"rows": alone}, b={"rows": together}).pairs[0].tests[0].found.groups == 1


def test_of_different_test_splits_the_shared_clips_are_compared_and_the_whole_is_refused(page_of):
    _, text, record, lines = page_of(a={"rows": rows_of([False] * 10)}, b={"rows": rows_of([True] * 7, start=4)})
    assert record["samples"]["shared"] == 7 and not record["samples"]["same_split"]
    assert len(record["samples"]["only"]["a"]) == 3 and record["samples"]["only"]["b"] == []
    assert "The test splits of the runs differ" in text and "3 of the 10 test samples of a" in text
    assert "dataset/squats/1.mp4" in text and "pin_splits" in text
    assert record["scores"]["a"]["n"] == 7 and "Scores on 7 shared test samples" in text
    assert any("The test splits of the runs differ" in line for line in lines)


def test_runs_without_a_shared_clip_are_refused(compare):
    with pytest.raises(InputError, match=r"no test sample can be compared between a and b.*4 of the 4.*pin_splits"):
        compare(a={"rows": rows_of([True] * 4)}, b={"rows": rows_of([True] * 4, start=50)})


def test_a_clip_that_one_run_was_trained_on_is_no_test_clip_of_the_other(compare):
    rows = rows_of([True] * 8)
    leaked = [{"video": rows[0]["video"], "group": "x", **samples_of(rows[:1])[0]}]
    found = compare(a={"rows": rows}, b={"rows": rows[1:], "train": leaked})
    assert found.shared.n == 7
    found = compare(a={"rows": rows}, b={"rows": rows, "train": train_samples(), "val": leaked})
    assert found.shared.n == 7 and found.shared.favoured == [rows[0]["video"]]


def test_another_clip_of_a_recording_that_one_run_was_trained_on_is_excluded(compare):
    rows = rows_of([True] * 8)
    rows[0] = rows[0] | {"group": "person"}
    other = [{"video": "dataset/squats/77.mp4", "group": "person", **samples_of(rows[:1])[0]}]
    found = compare(a={"rows": rows}, b={"rows": rows, "train": other})
    assert found.shared.favoured == [rows[0]["video"]]
    both = compare(a={"rows": rows, "train": other}, b={"rows": rows, "train": other})
    assert not both.shared.favoured and both.shared.seen_by_all == [rows[0]["video"]]


def test_nothing_but_leaks_is_refused_with_the_reason(compare):
    rows = rows_of([True] * 3)
    leaked = [{"video": row["video"], **sample} for row, sample in zip(rows, samples_of(rows), strict=True)]
    with pytest.raises(InputError, match=r"3 shared samples were excluded.*trained"):
        compare(a={"rows": rows}, b={"rows": rows, "train": leaked})


def test_a_corrected_reference_is_not_compared(compare):
    rows = rows_of([True] * 8)
    changed = [rows[0] | {"reference": "squats - knees in"}, *rows[1:]]
    found = compare(a={"rows": rows}, b={"rows": changed})
    assert found.shared.n == 7 and found.shared.other_reference == [rows[0]["video"]]
    assert "another reference or question" in " ".join(found.shared.refusal())


def test_runs_with_other_prompts_are_compared_and_the_page_says_so(page_of):
    named = [row | {"prompt": f"<video>\nCheck this {row['exercise']}."} for row in rows_of([True] * 8)]
    _, text, record, _ = page_of(a={"rows": rows_of([False] * 8)}, b={"rows": named})
    assert record["samples"]["shared"] == 8 and record["subject"] == "feedback", "one prompt names the exercise"
    assert "asked with different prompts" in text and "Check this squats." in text


def test_questions_with_equal_answers_pair_by_their_question(compare):
    both = [row for ask in "AB" for row in rows_of([True] * 4, prompt=f"<video>\n{ask}?")]
    found = compare(a={"rows": both}, b={"rows": both[4:] + both[:4]})
    assert found.shared.n == 8
    assert [row["prompt"] for row in found.shared.rows["a"]] == [row["prompt"] for row in found.shared.rows["b"]]


def test_free_text_is_compared_by_overlap_with_the_reference(page_of):
    texts = [f"Bend your knees a little more, number {i}." for i in range(8)]
    rows = [row | {"reference": text} for row, text in zip(rows_of([""] * 8), texts, strict=True)]
    near = [row | {"finetuned": "Bend your knees a little more."} for row in rows]
    far = [row | {"finetuned": "Arms."} for row in rows]
    _, text, record, _ = page_of(a={"rows": far, "train": []}, b={"rows": near, "train": []})
    assert record["decisive"] == "rougeL" and record["pairs"][0]["better"] == "b"
    assert "chrF" in text and "Exercise accuracy" not in text and "ROUGE-L 0." in text


def test_only_settings_that_differ_are_listed(make_run):
    runs = [
        read_run(make_run("a", rows_of([True] * 3))),
        read_run(make_run("b", rows_of([True] * 3), finetune={"learning_rate": 5e-4})),
    ]
    assert [row.name for row in settings_that_differ(runs)] == ["finetune.learning_rate"]
    assert settings_that_differ(runs)[0].values == {"a": 1e-4, "b": 5e-4}


def test_data_that_differs_is_counted_and_named(make_run):
    runs = [
        read_run(make_run("a", rows_of([True] * 3))),
        read_run(make_run("b", rows_of([True] * 3), train=train_samples(n=4))),
    ]
    data = data_of(runs)
    assert data.counts["train"] == {"a": 3, "b": 4} and not data.same("train")
    assert data.same("test") and data.only == {"a": [], "b": ["dataset/squats/903.mp4"]}


def test_the_page_is_complete_and_loads_nothing(page_of):
    html, text, _, _ = page_of(a={"rows": rows_of([False] * 8)}, b={"rows": rows_of([True] * 8)})
    page = Page(html)
    assert ("lang", "en") in page.attributes and "script" not in page.tags
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert sum(name == "aria-label" and "loss by step" in value for name, value in page.attributes) == 2
    assert "a 2.50 to 1.50; b 2.50 to 1.50" in html and "● a" in text and "■ b" in text
    for part in (
        "b is better than a",
        "8 better, 0 worse",
        "Settings that differ",
        "8 / 0 of 8",
        "The model of a learned",
    ):
        assert part in text


def test_clips_that_differ_are_shown_with_frames_and_all_answers(page_of, draw_clip, tmp_path):
    draw_clip(tmp_path / "dataset/squats/1.mp4")
    rows = rows_of([True] * 8)
    evil = [rows[0] | {"finetuned": "<script>alert(1)</script>"}, *rows[1:]]
    html, text, record, _ = page_of(a={"rows": rows}, b={"rows": evil})
    assert "<script>" not in html and "<script>alert(1)</script>" in text
    assert Page(html).tags.count("img") == 4
    assert "The answers differ for 1 of 8 shared test samples" in text and "✗ exercise wrong" in text
    (sample,) = record["differing"]
    assert sample["answers"] == {"a": rows[0]["finetuned"], "b": "<script>alert(1)</script>"}
    assert sample["values"] == {"a": 1.0, "b": 0.0}
    assert ("href", "../../dataset/squats/1.mp4") in Page(html).attributes


def test_of_many_differences_the_largest_come_first_and_the_rest_is_counted(make_run, tmp_path):
    mild = [f"{RIGHT[NAMES[i % 3]]} {i}" for i in range(6)]  # still the right exercise
    runs = [
        read_run(make_run("a", rows_of([True] * 7))),
        read_run(make_run("b", rows_of([*mild, False]))),
    ]
    page = tmp_path / "page.html"
    write_comparison(page, tmp_path / "x.json", runs=runs, results=tmp_path, project=tmp_path, max_clips=2)
    text = re.sub(r"\s+", " ", Page(page.read_text()).text)
    assert "differ for 7 of 7" in text and "The table shows 2" in text and "the other 5" in text
    assert text.index("squats/7.mp4: there is no such file") < text.index("squats/1.mp4: there is no such file")


def test_equal_runs_give_an_equal_page(page_of):
    runs = {"a": {"rows": rows_of([False] * 4)}, "b": {"rows": rows_of([True] * 4)}}
    assert page_of(**runs)[0] == page_of(**runs)[0]


def test_a_run_that_does_not_say_what_it_was_trained_on_is_compared_with_a_note(page_of, make_run, tmp_path):
    runs = [make_run("a", rows_of([True] * 4)), make_run("b", rows_of([False] * 4))]
    (runs[1] / "samples/train.json").unlink()
    lines = write_comparison(
        tmp_path / "p.html", tmp_path / "p.json", runs=[*map(read_run, runs)], results=tmp_path, project=tmp_path
    )
    assert lines
    page = (tmp_path / "p.html").read_text()
    assert "b: the run does not say which clips it was trained on" in page
    assert "the validation losses cannot be compared" not in page and "of a alone" not in page, "nobody knows"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("predictions.jsonl", '{"video": "a.mp4"', "predictions.jsonl: not valid JSON lines"),
        ("predictions.jsonl", '{"video": "a.mp4"}\n', "predictions.jsonl, line 1: has no exercise, prompt"),
        ("predictions.jsonl", "", "predictions.jsonl: is empty"),
        ("metrics.json", "{}", 'metrics.json: has no "settings"'),
        ("train.json", "[]", "train.json: is a list, not an object"),
        ("config.yaml", "a: [", "config.yaml: cannot be read"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(make_run, name, content, message):
    folder = make_run("a", rows_of([True] * 3))
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=rf"a/{re.escape(message)}.*snakemake --forcerun \w+ --config run=a"):
        read_run(folder)


def test_the_evaluation_of_an_adapter_that_was_trained_again_is_refused(make_run):
    folder = make_run("a", rows_of([True] * 3))
    metrics = json.loads((folder / "metrics.json").read_text())
    write_json(metrics | {"digest": "another"}, folder / "metrics.json")
    with pytest.raises(InputError, match=r"trained again since.*--forcerun evaluate"):
        read_run(folder)
