"""What a person sees of a finished run, without Snakemake's usual messages."""

from tests.workflow.conftest import ENVIRONMENT


def test_a_second_call_shows_the_scores_and_snakemakes_report_has_plots_scores_and_page(trained, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "SNAKEMAKE_LOGGER_STAGES_USUAL", "false")
    outcome = trained.run("report", "--config", "run=tiny")
    lines = outcome.err.splitlines()
    start = lines.index("Nothing to do: results/tiny/ is up to date.")
    assert lines[start + 1].split() == ["2", "test", "samples", "base", "fine-tuned", "control"]
    assert lines[-2] == "Report: results/tiny/report.html"
    assert lines[-1].endswith("infer --config video=clip.mp4 run=tiny`") and len(lines) < 15, outcome.err
    log = trained.run("--report").err
    assert all(name in log for name in ("loss.svg", "grad_norm.svg", "metrics.json", "predictions.csv", "report.html"))
    assert (trained / "report.html").stat().st_size > (trained / "results/tiny/report.html").stat().st_size
