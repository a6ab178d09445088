"""Plots of the training log."""

from mobilevideogpt.training.curves import plot_training


def test_the_log_is_drawn(finished, tmp_path):
    drawn = plot_training(finished[1] / "log.jsonl", tmp_path)
    assert [path.name for path in drawn] == ["loss.svg", "grad_norm.svg", "learning_rate.svg"]
    assert all("<svg" in path.read_text() for path in drawn)
