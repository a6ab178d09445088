"""The page of a run, from small made-up results."""

import re
from html.parser import HTMLParser

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.formatting import duration, facts
from mobilevideogpt.evaluation.metrics import control_scores, score
from mobilevideogpt.evaluation.report import write_report
from mobilevideogpt.evaluation.scoring import task_of
from tests.evaluation.rows import samples_of

REFERENCES = ["squats - not going <script>alert(1)</script> deep", "lunges - good form", "squat jump - good form"]
TUNED = [REFERENCES[0], REFERENCES[1], "squats - good form"]
SOURCES = ("base", "finetuned", "mismatched_video")
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


def metrics_of(rows):
    """The metrics that the rule evaluate writes for these rows."""
    task = task_of(rows, samples_of(rows))
    control = rows[0]["mismatched_video"] is not None
    metrics = {name: score(rows, name, task) for name in SOURCES[: 2 + control]}
    if control:
        metrics["mismatched_video"] |= control_scores(rows, task)
    speeds = dict.fromkeys(SOURCES, 30.0)
    return {"mismatched_video": None} | metrics | {"settings": {"max_new_tokens": 64}, "tokens_per_second": speeds}


def with_rows(results, rows):
    return results | {"predictions": rows, "metrics": metrics_of(rows), "train_samples": samples_of(rows)}


def text_of(results, path):
    write_report(path, **results)
    return re.sub(r"\s+", " ", Page(path.read_text(encoding="utf-8")).text)


@pytest.fixture
def results(tmp_path, draw_clip):
    videos = ["dataset/clips/1.mp4", "dataset/clips/2.mp4", "dataset/clips/3.mp4"]
    exercises = ["squats", "lunges", "squat_jump"]
    for video in videos[:2]:  # the third is gone
        draw_clip(tmp_path / video)
    marks = {"scores": [190.0 + i for i in range(16)], "chosen": [4, 5, 6, 7, 12, 13, 14, 15]}
    shown = [videos[1], videos[2], videos[0]]
    mismatched = [REFERENCES[1], REFERENCES[1], REFERENCES[0]]
    columns = zip(videos, exercises, REFERENCES, TUNED, mismatched, shown, exercises[1:] + exercises[:1], strict=True)
    names = ("video", "exercise", "reference", "finetuned", "mismatched_video", "shown_video", "shown_exercise")
    rows = [
        dict(zip(names, row, strict=True)) | {"base": "", "prompt": "<video>\nWhat is it?", "cut": {}, "frames": marks}
        for row in columns
    ]
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
            "truncated_texts": {"train": 0, "val": 0},
            "this_run": {"seconds": 4000.0, "device": "CPU (x86_64)"},
        },
        "metrics": metrics_of(rows),
        "predictions": rows,
        "train_samples": samples_of(rows),
        "log": [*losses, {"step": 2, "eval_loss": 2.5}, {"step": 4, "eval_loss": 2.25}],
        "integrity": {
            "ok": True,
            "checks": [{"name": "clips decode in full", "ok": True, "detail": "3 clips", "remedy": ""}],
            "clips": [
                {"video": videos[0], "file": videos[0], "verdict": "ok", "problems": []},
                {"video": videos[1], "file": videos[1], "verdict": "warning", "problems": ["2 frames short"]},
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
            "near_duplicates": [],
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
    assert parsed.tags.count("img") == 32  # all frames of each clip that is there
    assert sum(name == "alt" and bool(value) for name, value in parsed.attributes) == 32
    assert sum(name == "aria-label" and value.startswith("Loss by step") for name, value in parsed.attributes) == 1


def test_the_page_lists_the_notes_about_the_splits(page):
    assert "<li>The split is the label file&#39;s &lt;own&gt;</li>" in page
    assert "<li>Leakage across splits: a is train and b is test</li>" in page
    assert "<li>No near-duplicates across splits</li>" in page


def test_the_page_loads_nothing_until_a_clip_is_played(page):
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    parsed = Page(page)
    sources = [value for name, value in parsed.attributes if name in ("src", "href", "xlink:href")]
    linked = [value for value in sources if not value.startswith(("data:", "#"))]
    assert linked == ["dataset/clips/1.mp4"] * 2 + ["dataset/clips/2.mp4"] * 2  # a player and a link each
    assert parsed.attributes.count(("preload", "none")) == parsed.tags.count("video") == 2
    assert "script" not in parsed.tags


def test_a_player_shows_the_file_that_the_model_saw_relative_to_the_page(results, tmp_path, draw_clip):
    draw_clip(tmp_path / "results/reencoded/a #1 é.mp4")
    results["integrity"]["clips"][0]["file"] = "results/reencoded/a #1 é.mp4"
    (tmp_path / "results/my_run").mkdir()
    write_report(tmp_path / "results/my_run/report.html", **results)
    page = (tmp_path / "results/my_run/report.html").read_text(encoding="utf-8")
    assert re.findall(r'<video class="player" src="([^"]*)"', page) == [
        "../reencoded/a%20%231%20%C3%A9.mp4",
        "../../dataset/clips/2.mp4",
    ]


def test_browsers_are_given_no_player_for_a_clip_they_cannot_play(results, tmp_path, draw_clip):
    draw_clip(tmp_path / "clip.avi")
    results["integrity"]["clips"][0]["file"] = "clip.avi"
    write_report(tmp_path / "report.html", **results)
    parsed = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert parsed.tags.count("video") == 1 and ("href", "clip.avi") in parsed.attributes


def test_frames_given_to_the_video_encoder_are_marked_with_their_scores(results, tmp_path, page):
    assert page.count('class="frame chosen"') == 16
    text = re.sub(r"\s+", " ", Page(page).text)
    assert "193.0● 194.0" in text and "given to VideoMamba, too" in text
    unknown = [{name: value for name, value in row.items() if name != "frames"} for row in results["predictions"]]
    text = text_of(results | {"predictions": unknown}, tmp_path / "old.html")
    assert "●" not in text and "given to VideoMamba" not in text


def test_text_from_the_data_stays_text(page):
    assert "<script>" not in page
    assert "not going <script>alert(1)</script> deep" in Page(page).text


def test_the_page_contains_the_numbers_and_their_meaning(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    for expected in (
        "in 2 of 3 samples",
        "1 better, 0 worse, p = 1.00",
        "1 of 3 answers change to it",
        "more test clips would tell",
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
    assert "The table shows 1 of 3 samples." in text and "1 sample with something wrong" in text
    assert "clips/3.mp4" in text


def test_where_the_prompt_names_the_exercise_the_page_says_so(results, tmp_path):
    rows = [row | {"prompt": f"<video>\nCheck this {row['exercise']}."} for row in results["predictions"]]
    text = text_of(with_rows(results, rows), tmp_path / "report.html")
    assert "The prompt names the exercise, so its accuracy shows nothing" in text


def test_free_text_is_shown_without_scores_of_the_exercise(results, tmp_path):
    rows = [row | {"reference": "Go deeper.", "finetuned": "Go deeper."} for row in results["predictions"]]
    text = text_of(with_rows(results, rows), tmp_path / "report.html")
    assert "The answers are free text" in text and "✓ word for word right" in text
    assert "chrF" in text and "BLEU" in text
    assert "xercise right" not in text and "xercise accuracy" not in text and "acro F1" not in text


def test_a_page_without_control_says_why(results, tmp_path):
    gone = dict.fromkeys(("mismatched_video", "shown_video", "shown_exercise"))
    rows = [row | gone | {"exercise": "squats", "reference": TUNED[0]} for row in results["predictions"]]
    text = text_of(with_rows(results, rows), tmp_path / "report.html")
    assert "not possible: one exercise in the test split" in text and "Control" not in text


def test_too_few_clips_have_a_tone_of_their_own(results, page):
    assert 'class="panel conclusion open"' in page and "Cannot tell" in Page(page).text


def test_both_numbers_of_samples_and_of_groups_are_on_the_page(results, tmp_path):
    rows = [row | {"group": "me"} for row in results["predictions"]]
    text = text_of(with_rows(results, rows), tmp_path / "report.html")
    assert "The 3 samples show 3 clips in 1 group" in text and "Scores on 3 test samples" in text


def test_tests_intervals_and_confusion_are_on_the_page(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    assert "against the commonest answer of the training split" in text and "2 / 0 of 3" in text
    assert "67 % 2 of 3 9 % to 99 %" in text
    assert "Reference ↓, answer →" in text


def test_every_warning_is_on_the_page(results, tmp_path):
    results["summary"]["split"]["unbalanced"] = (
        "the exercises are unbalanced: squats has 9 training clips, lunges has 3"
    )
    rows = [row | {"cut": {"finetuned": True}} for row in results["predictions"]]
    results = with_rows(results, rows)
    results["train"]["truncated_texts"] = {"train": 4, "val": 0}
    results["log"] = [{"step": 0, "eval_loss": 2.0}, {"step": 4, "eval_loss": 2.25}]
    results["preflight"]["checks"].append({"name": "disk", "ok": False, "detail": "9 GB", "remedy": "free some"})
    text = text_of(results, tmp_path / "report.html")
    assert "4 texts of the train split were longer than finetune.max_text_tokens" in text
    assert "The validation loss never fell below its first value (2.000)" in text
    assert "The exercises are unbalanced: squats has 9 training clips, lunges has 3." in text
    assert "3 of 3 answers of the fine-tuned model had no end after 64 tokens" in text and "cut: no end" in text
    assert "Preflight, disk: 9 GB; free some" in text


def test_independence_is_said_only_where_it_follows(results, tmp_path):
    claim = "took no part in the training"
    assert claim not in text_of(results, tmp_path / "leak.html")
    assert "1 recording or person in several splits" in text_of(results, tmp_path / "leak.html")
    results["summary"]["split"]["leaks"] = []
    assert claim in text_of(results, tmp_path / "none.html")
    results["summary"]["near_duplicates"] = [{"clips": ["a", "b"], "splits": ["train", "test"]}]
    text = text_of(results, tmp_path / "near.html")
    assert claim not in text and "1 pair of near-duplicates across splits" in text
    del results["summary"]["near_duplicates"]
    assert claim not in text_of(results, tmp_path / "unknown.html")


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


def test_warnings_and_clips_come_before_scores_and_scores_before_settings(results, tmp_path):
    results["train"]["truncated_texts"]["train"] = 1
    text = text_of(results, tmp_path / "report.html")
    titles = ["Caution.", "Warnings", "Test clips", "Scores on", "Training The training", "Data 2 clips", "Machine"]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)


def test_leaks_are_named_beside_the_conclusion(results, tmp_path):
    results["summary"]["near_duplicates"] = [{"clips": ["a.mp4", "b.mp4"], "splits": ["train", "test"]}] * 3
    box = text_of(results, tmp_path / "report.html").partition("Test clips")[0]
    assert "a is train and b is test" in box and "a.mp4 (train) and b.mp4 (test) look alike" in box
    assert "and 1 more" in box


def test_a_wrong_answer_comes_first_and_its_clip_plays_behind_a_still(results, tmp_path):
    results["predictions"][1]["finetuned"] = "squats - good form"
    rows = results["predictions"]
    write_report(tmp_path / "report.html", **with_rows(results, rows))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("clips/<wbr>2.mp4") < page.index("clips/<wbr>1.mp4")
    assert (
        len(re.findall(r'<video class="player" [^>]*poster="data:image/jpeg;base64,[^"]{100,}" width="\d+"', page)) == 2
    )


def test_exercises_keep_the_spelling_of_the_data(results, tmp_path):
    def renamed(text):
        return re.sub("squat.jump", "Squat_Jump", text.replace("squats", "Spru\u0308nge"))

    names = ("exercise", "reference", "finetuned", "mismatched_video", "shown_exercise")
    rows = [row | {name: renamed(row[name]) for name in names} for row in results["predictions"]]
    text = text_of(with_rows(results, rows), tmp_path / "report.html")
    assert "spr\u00fcnge" not in text and "squat jump" not in text
    scores = text.partition("by exercise")[2]
    assert "Spr\u00fcnge1 sample" in scores and "Squat Jump1 sample" in scores


def test_no_gpu_is_no_success_and_abbreviations_stay_upper_case(results, tmp_path):
    check = {"name": "device", "ok": True, "detail": "no GPU that torch can use", "remedy": ""}
    results["preflight"]["checks"].append(check)
    text = text_of(results, tmp_path / "report.html")
    assert "\u2713 device right" in text  # there is one
    results["preflight"]["machine"] = {"driver": None, "gpus": [], "why_no_gpu": "none"}
    results["train"]["versions"]["cuda"] = "none"
    text = text_of(results, tmp_path / "report.html")
    assert "\u2013 device no GPU" in text and "Why no GPU" in text and "CUDA none" in text
    assert "cUDA" not in text and "no gpu" not in text
