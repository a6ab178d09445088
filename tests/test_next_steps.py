import os

import pytest

from mobilevideogpt.command_line import CommandLine
from mobilevideogpt.files import write_json
from mobilevideogpt.next_steps import after_failure, next_steps, up_to_date

SCORES = {
    "base": {"n": 6, "exercise_accuracy": 0.25, "feedback_accuracy": None, "rougeL": 0.3},
    "finetuned": {"n": 6, "exercise_accuracy": 1.0, "feedback_accuracy": None, "rougeL": 0.875},
    "mismatched_video": None,
    "conclusion": {"headline": "The model learned the exercises"},
}


@pytest.fixture
def run(tmp_path):
    record = {"losses": {"val_first": 4.797}, "kept": "last", "adapters": {"last": {"val_loss": 0.1184}}}
    write_json(record, tmp_path / "train.json")
    return tmp_path


def test_a_fine_tuning_ends_with_its_loss_and_the_report_as_the_next_step(run):
    text = next_steps(run, started=0, holds_out=True)
    assert f"Fine-tuned: {run}/adapter (validation loss 4.797 -> 0.118)" in text
    assert "Next: `snakemake report`" in text


def test_a_run_on_all_clips_ends_with_infer(run):
    record = {"losses": {"val_first": None}, "kept": "last", "adapters": {"last": {"val_loss": None}}}
    write_json(record, run / "train.json")
    text = next_steps(run, started=0, holds_out=False)
    assert "no validation clips" in text and "Next: try `snakemake infer" in text


def test_after_the_evaluation_the_scores_are_a_table_and_the_page_is_named_once_it_is_written(run):
    write_json(SCORES, run / "metrics.json")
    table = [
        "",
        "6 test samples  base  fine-tuned",
        "exercise right  25 %  100 %",
        "ROUGE-L         0.30  0.88",
        "The model learned the exercises.",
    ]
    assert next_steps(run, started=0, holds_out=True).splitlines() == [
        *table,
        "Next: `snakemake report` shows them on a page",
    ]
    (run / "report.html").write_text("page")
    assert next_steps(run, started=0, holds_out=True).splitlines()[:6] == [*table, f"Report: {run}/report.html"]


def test_the_next_command_repeats_the_settings_that_were_typed(run):
    text = next_steps(run, 0, True, CommandLine(files=("tiny.yaml",), values=("run=try2",)))
    assert "Next: `snakemake report --configfile tiny.yaml --config run=try2`" in text


def test_where_nothing_is_to_do_the_figures_of_what_was_asked_for_are_shown(run):
    assert up_to_date({"finetune"}, run, True).startswith(f"Nothing to do: {run}/ is up to date.\nFine-tuned: {run}/ad")
    write_json(SCORES, run / "metrics.json")
    assert "fine-tuned" in up_to_date({"evaluate"}, run, True) and "Report:" not in up_to_date({"evaluate"}, run, True)
    for target in ("report", "all"):
        assert "fine-tuned" in (text := up_to_date({target}, run, True)) and f"Report: {run}/report.html" in text
    assert "Fine-tuned" in up_to_date({"all"}, run, holds_out=False)
    assert up_to_date({"annotations"}, run, True) == "Nothing to do: annotations is up to date."


def test_damaged_figures_are_said_and_do_not_stop_the_call(run):
    (run / "train.json").write_text("{")
    assert "train.json" in up_to_date({"finetune"}, run, True)


def test_after_a_signal_nothing_is_called_an_error():
    assert "error" not in after_failure(stopped=True) and "error above" in after_failure(stopped=False)


def test_what_an_earlier_call_made_is_not_announced(run):
    os.utime(run / "train.json", (1, 1))
    assert next_steps(run, started=2, holds_out=True) == ""
