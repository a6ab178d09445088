"""Curves of a training, drawn from its log."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt  # after the backend is chosen

from mobilevideogpt.files import replacing

# file name: (axis label, {legend: key in the log})
CURVES = {
    "loss": ("loss", {"training": "loss", "validation": "eval_loss"}),
    "grad_norm": ("gradient norm before clipping", {"": "grad_norm"}),
    "learning_rate": (
        "learning rate",
        {
            "LoRA": "learning_rate_lora",
            "language model": "learning_rate_language_model",
            "projectors": "learning_rate_projectors",
        },
    ),
}


def plot_training(log: str | Path, folder: str | Path) -> list[Path]:
    """Draw ``loss.svg``, ``grad_norm.svg`` and ``learning_rate.svg`` from ``log.jsonl`` into ``folder``."""
    with open(log, encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    drawn = []
    for name, (label, lines) in CURVES.items():
        figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
        for legend, key in lines.items():
            points = [(entry["step"], entry[key]) for entry in entries if key in entry]
            marker = "o" if key == "eval_loss" else None
            if points:
                axes.plot(*zip(*points, strict=True), marker=marker, label=legend)
        axes.set(xlabel="step", ylabel=label, xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
        if len(axes.lines) > 1:
            axes.legend()
        drawn.append(Path(folder) / f"{name}.svg")
        with replacing(drawn[-1]) as temporary:
            figure.savefig(temporary)
        plt.close(figure)
    return drawn
