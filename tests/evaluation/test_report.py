"""The page of a run, from small made-up results."""

import re
from html.parser import HTMLParser

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.formatting import duration, facts
from mobilevideogpt.evaluation.metrics import score
from mobilevideogpt.evaluation.report import write_report

REFERENCES = ["squats - not going <script>alert(1)</script> deep", "lunges - good form", "squat jump - good form"]
TUNED = [REFERENCES[0], REFERENCES[1], "squats - good form"]
VOID = {"meta", "img", "path", "use", "br", "link", "wbr", "input", "hr"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and fails on tags that do not pair."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data


@pytest.fixture
def results(tmp_path, draw_clip):
    videos = ["dataset/squats/1.mp4", "dataset/lunges/2.mp4", "dataset/squat_jump/3.mp4"]
    for video in videos[:2]:  # the third is gone
        draw_clip(tmp_path / video)
    shown = [videos[1], videos[2], videos[0]]
    mismatched = [REFERENCES[1], REFERENCES[1], REFERENCES[0]]
    control = score(REFERENCES, mismatched, shown=[REFERENCES[1], REFERENCES[2], REFERENCES[0]])
    rows = zip(videos, REFERENCES, TUNED, mismatched, shown, strict=True)
    names = ("video", "reference", "finetuned", "mismatched_video", "shown_video")
    losses = [{"step": n, "epoch": n / 2, "loss": 3.5 / n, "learning_rate_lora": 1e-3 / n} for n in (1, 2, 3, 4)]
    losses = [row | {"learning_rate_projectors": 3e-4} for row in losses]
    settings = {"batch_size": "auto", "gradient_accumulation_steps": 1, "learning_rate": 1e-3, "lora_r": 64, "seed": 42}
    settings |= {"projector_learning_rate": 3e-4, "lora_alpha": 128, "lora_dropout": 0.05}
    settings |= {"method": "lora", "quantization": "none"}
    return {
        "train": {
            "run": "my_run",
            "digest": "4f9c" * 16,
            "base": "checkpoints/base",
            "adapter": "results/my_run/adapter",
            "epochs": 2.0,
            "steps": 4,
            "resumed_from": None,
            "parameters": {"lora": 1000, "projectors": 234, "frozen": 5},
            "precision": "bf16",
            "batch": {"effective": 4, "micro": 2, "accumulation": 2, "gradient_checkpointing": False},
            "deepspeed": None,
            "world_size": 1,
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
            "git_revision": "0123abc",
            "this_run": {"seconds": 4000.0, "device": "CPU (x86_64)"},
        },
        "metrics": {
            "base": score(REFERENCES, ["", "", ""]),
            "finetuned": score(REFERENCES, TUNED),
            "mismatched_video": control | {"kept_exercise": 1 / 3, "n_differing": 3, "kept_answer": 1 / 3},
            "settings": {"prompt_names_exercise": False, "answers": "labels"},
        },
        "predictions": [
            dict(zip(names, row, strict=True)) | {"base": "", "prompt": "<video>\nWhat is it?"} for row in rows
        ],
        "log": [*losses, {"step": 2, "eval_loss": 2.5}, {"step": 4, "eval_loss": 2.25}],
        "integrity": {
            "ok": True,
            "checks": [{"name": "clips decode in full", "ok": True, "detail": "3 clips", "remedy": ""}],
            "clips": [
                {"video": videos[0], "verdict": "ok", "problems": []},
                {"video": videos[1], "verdict": "warning", "problems": ["2 frames short"]},
            ],
        },
        "preflight": {
            "ok": True,
            "predicted_bytes": 1_250_000_000,
            "rehearsed_bytes": None,
            "machine": {"driver": None, "gpus": [{"name": "H100", "memory_bytes": 80_000_000_000}]},
            "checks": [{"name": "memory", "ok": True, "detail": "predicted 1.25 GB", "remedy": ""}],
        },
        "config": {"run": "my_run", "finetune": settings},
        "summary": {
            "splits": {"train": 9, "val": 3, "test": 3},
            "split": {"notices": ["the split is the label file's <own>"], "leaks": ["a is train and b is test"]},
            "findings": [],
        },
        "notes": ["no near-duplicates across splits"],
        "project": tmp_path,
    }


@pytest.fixture
def page(results, tmp_path):
    write_report(tmp_path / "report.html", **results)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_is_complete_html_with_title_language_and_described_pictures(page):
    parsed = Page(page)
    assert ("lang", "en") in parsed.attributes
    assert {"title", "h1", "h2", "table", "svg"} <= set(parsed.tags)
    assert parsed.tags.count("img") == 8  # four frames of each clip that is there
    assert sum(name == "alt" and bool(value) for name, value in parsed.attributes) == 8
    assert sum(name == "aria-label" and value.startswith("Loss by step") for name, value in parsed.attributes) == 1


def test_the_page_lists_the_notes_about_the_splits(page):
    assert "<li>The split is the label file&#39;s &lt;own&gt;</li>" in page
    assert "<li>Leakage across splits: a is train and b is test</li>" in page
    assert "<li>No take is in two splits</li>" in page


def test_the_page_loads_nothing(page):
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    sources = [value for name, value in Page(page).attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith(("data:", "#")) for value in sources)
    assert "script" not in Page(page).tags


def test_text_from_the_data_stays_text(page):
    assert "<script>" not in page
    assert "not going <script>alert(1)</script> deep" in Page(page).text


def test_the_page_contains_the_numbers_and_their_meaning(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    for expected in (
        "from 0 of 3 to 2 of 3 test clips",
        "named the shown exercise in 2 of 3 cases",
        "only 3 test clips",
    ):
        assert expected in text
    for expected in (
        "9 / 3 / 3",
        "2 / 4",
        "Batch size: effective / micro4 / 2",
        "64 / 128 / 0.05",
        "1,234",
        "1 h 7 min",
        "0123abc",
        "4f9c" * 16,
        "name H100, memory 80.00 GB",
    ):
        assert expected in text
    assert "2 clips were decoded in full. Their status: 1 ok, 1 warning, 0 error." in text


def test_right_and_wrong_are_shown_by_words_as_well_as_colour(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    assert "✓ exercise right" in text
    assert "✗ exercise wrong" in text


def test_a_clip_that_is_gone_has_no_frames_on_the_page(page):
    assert "3.mp4: there is no such file" in Page(page).text


def test_of_many_clips_those_with_wrong_answers_are_shown(results, tmp_path):
    write_report(tmp_path / "report.html", **results, max_clips=1)
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "1 of 3 clips, wrong answers first" in text
    assert "squat_jump/3.mp4" in text


def test_where_the_prompt_names_the_exercise_the_page_says_so(results, tmp_path):
    results["metrics"]["settings"]["prompt_names_exercise"] = True
    write_report(tmp_path / "report.html", **results)
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "The prompt names the exercise, so its accuracy shows nothing" in text


def test_free_text_is_shown_without_scores_of_the_exercise(results, tmp_path):
    references = [row["reference"] for row in results["predictions"]]
    for name in ("base", "finetuned", "mismatched_video"):
        answers = [row[name] for row in results["predictions"]]
        results["metrics"][name] = score(references, answers, free_text=True) | {"n_differing": 3, "kept_answer": 0.0}
    results["metrics"]["settings"]["answers"] = "feedbacks"
    write_report(tmp_path / "report.html", **results)
    text = re.sub(r"\s+", " ", Page((tmp_path / "report.html").read_text(encoding="utf-8")).text)
    assert "The answers are free text" in text and "✓ word for word right" in text
    assert "xercise right" not in text and "xercise accuracy" not in text and "acro F1" not in text


def test_findings_are_counted_and_listed(results, tmp_path):
    finding = {
        "code": "matched_by_name",
        "reason": "clips joined by name",
        "count": 1234,
        "items": [f"dataset/squats/{i}.mp4" for i in range(30)],
    }
    results["summary"]["findings"] = [finding]
    write_report(tmp_path / "report.html", **results)
    text = re.sub(r"\s+", " ", Page((tmp_path / "report.html").read_text(encoding="utf-8")).text)
    assert "1,234 clips joined by name" in text and "squats/19.mp4" in text and "squats/20.mp4" not in text
    assert "and 1,214 more; the annotations summary lists 30" in text


def test_equal_results_give_an_equal_page(results, page, tmp_path):
    write_report(tmp_path / "again.html", **results)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_no_predictions_are_an_error_and_leave_no_page(results, tmp_path):
    with pytest.raises(InputError, match="no predictions"):
        write_report(tmp_path / "report.html", **results | {"predictions": []})
    assert not (tmp_path / "report.html").exists()


def test_values_read_well():
    values = {"peak_memory_bytes": 1_250_000_000, "driver": None, "ok": True, "gpus": []}
    assert [text for _, text in facts(values)] == ["1.25 GB", "–", "yes", "none"]
    assert facts(values)[0][0] == "Peak memory"
    assert [duration(seconds) for seconds in (84.2, 600, 4000)] == ["84 s", "10 min", "1 h 7 min"]
