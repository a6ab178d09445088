"""Training curves as inline SVG in the colours of the page."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# matplotlib draws in placeholder colours. The page's own replace them, so that a dark page has light axes.
TEXT, MUTED, LINE, ACCENT, SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
_COLOURS = {
    TEXT: "var(--text)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
}
# Lines of several runs: six colours with a marker each, then the same with dashes.
RUNS = ["#" + 3 * f"{16 + n:02x}" for n in range(6)]
_COLOURS |= {colour: f"var(--run-{n})" for n, colour in enumerate(RUNS, 1)}
LINES = [(colour, style, marker) for style in ("-", "--") for colour, marker in zip(RUNS, "os^DvP", strict=True)]
SMOOTHED_ABOVE = 100  # logged steps; a longer curve is also drawn as a moving average
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays selectable
    "svg.hashsalt": "mobilevideogpt",  # equal curves give equal bytes
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": TEXT,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


def loss_curve(log: Sequence[Mapping]) -> str | None:
    """Draw the training loss of each logged step and the validation loss of each evaluation, as SVG.

    Args:
        log: The Trainer's log entries in order: ``step`` with ``loss`` or ``eval_loss``.

    Returns:
        The element, or None if no loss was logged.
    """
    train = [(row["step"], row["loss"]) for row in log if "loss" in row]
    val = [(row["step"], row["eval_loss"]) for row in log if "eval_loss" in row]
    if not train and not val:
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _subplots()
        if train:
            _plot_training_loss(axes, train)
        if val:
            steps, losses = zip(*val, strict=True)
            axes.plot(steps, losses, color=SECOND, linewidth=1.6, marker="o", markersize=4, label="validation")
        axes.set_ylabel("loss (nats a token)")
        axes.set_ylim(bottom=0)
        axes.legend()
        curves = {"training": train, "validation": val}
        ranges = [f"{name} loss {rows[0][1]:.2f} to {rows[-1][1]:.2f}" for name, rows in curves.items() if rows]
        return _svg(figure, f"Loss by step: {'; '.join(ranges)}")


def learning_rate_curve(log: Sequence[Mapping]) -> str | None:
    """Draw the learning rates by step, as SVG.

    Args:
        log: The Trainer's log entries in order: ``step`` with ``learning_rate_lora`` and ``learning_rate_projectors``.

    Returns:
        The element, or None if no learning rate was logged.
    """
    lines = {"LoRA": ("learning_rate_lora", ACCENT, "-"), "projectors": ("learning_rate_projectors", SECOND, "--")}
    curves = {
        name: ([(row["step"], row[key]) for row in log if key in row], colour, style)
        for name, (key, colour, style) in lines.items()
    }
    if not any(points for points, *_ in curves.values()):
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _subplots()
        for name, (points, colour, style) in curves.items():
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.6, label=name)
        axes.set_ylabel("learning rate")
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        axes.legend()
        peaks = [f"{name} at most {max(rate for _, rate in points):.1e}" for name, (points, *_) in curves.items()]
        return _svg(figure, f"Learning rate by step: {', '.join(peaks)}")


def legend(runs: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return name, colour (of the page) and symbol of each run's line; names may be too long for the chart."""
    symbols = dict(zip("os^DvP", "●■▲◆▼✚", strict=True))
    lines = zip(runs, LINES, strict=False)
    return [(run, _COLOURS[line[0]], symbols[line[2]] + ("" if line[1] == "-" else " - -")) for run, line in lines]


def loss_curves(logs: Mapping[str, Sequence[Mapping]], key: str) -> str | None:
    """Draw one loss of several runs over each other, as SVG. `legend` names the lines.

    Args:
        logs: Run to the Trainer's log entries in order.
        key: ``loss``, of the training, or ``eval_loss``, of the validation.

    Returns:
        The element, or None if no run logged this loss.
    """
    curves = {run: [(row["step"], row[key]) for row in log if key in row] for run, log in logs.items()}
    if not any(curves.values()):
        return None
    top = max(row[name] for log in logs.values() for row in log for name in ("loss", "eval_loss") if name in row)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _subplots()
        for points, (colour, style, marker) in zip(curves.values(), LINES, strict=False):
            if not points:
                continue
            steps, losses = zip(*points, strict=True)
            if len(points) > SMOOTHED_ABOVE:
                losses = _moving_average(losses, len(points) // 50 * 2 + 1)
            every = max(1, len(points) // 8)  # markers tell the lines apart without their colours
            line = {"color": colour, "linestyle": style, "linewidth": 1.6}
            axes.plot(steps, losses, **line, marker=marker, markersize=5, markevery=every)
        axes.set_ylabel("loss (nats a token)")
        axes.set_ylim(0, 1.05 * top)
        ranges = [f"{run} {points[0][1]:.2f} to {points[-1][1]:.2f}" for run, points in curves.items() if points]
        return _svg(figure, f"{'Training' if key == 'loss' else 'Validation'} loss by step: {'; '.join(ranges)}")


def _plot_training_loss(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    steps, losses = zip(*points, strict=True)
    if len(points) <= SMOOTHED_ABOVE:
        axes.plot(steps, losses, color=ACCENT, linewidth=1.6, label="training")
        return
    width = len(points) // 50 * 2 + 1
    axes.plot(steps, losses, color=ACCENT, linewidth=0.8, alpha=0.3)
    axes.plot(steps, _moving_average(losses, width), color=ACCENT, label=f"training (mean of {width} logged steps)")


def _moving_average(values: Sequence[float], width: int) -> list[float]:
    windows = [values[max(0, i - width // 2) : i + width // 2 + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def _subplots() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.9, 2.9), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_xlabel("optimiser step")
    return figure, axes


def _svg(figure: Figure, title: str) -> str:
    """The figure as an ``<svg>`` element that a screen reader reads as ``title`` (plain text without markup)."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text[text.index("<svg") :])
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"font(?:-family)?: [^;\"]*sans-serif[^;\"]*", lambda match: _font(match[0]), text)
    for placeholder, colour in _COLOURS.items():
        text = text.replace(placeholder, colour)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _font(style: str) -> str:
    """The same font size in the page's font family."""
    size = re.search(r"[\d.]+px", style)
    return f"font: {size[0]} system-ui, sans-serif" if size else "font-family: system-ui, sans-serif"
