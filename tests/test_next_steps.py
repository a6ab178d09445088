import os

import pytest

from mobilevideogpt.files import write_json
from mobilevideogpt.next_steps import next_steps


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


def test_the_page_is_named_once_it_is_written(run):
    (run / "report.html").write_text("page")
    assert next_steps(run, started=0, holds_out=True).startswith(f"\nReport: {run}/report.html")


def test_what_an_earlier_call_made_is_not_announced(run):
    os.utime(run / "train.json", (1, 1))
    assert next_steps(run, started=2, holds_out=True) == ""
