"""Training curves as inline SVG that takes its colours from the page."""

import io
import re
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# matplotlib draws in these, and the page's own colours take their place, so that a dark page has light axes
_COLOURS = {"#010101": "var(--text)", "#020202": "var(--muted)", "#030303": "var(--line)"} | {
    "#040404": "var(--accent)",
    "#050505": "var(--second)",
}
TEXT, MUTED, LINE, ACCENT, SECOND = _COLOURS
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mobilevideogpt",  # the same curves give the same bytes
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


def _axes() -> Axes:
    figure = Figure(figsize=(4.9, 2.9), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_xlabel("optimiser step")
    return axes


def _svg(axes: Axes, title: str) -> str:
    """The figure as an ``<svg>`` element that is read out as ``title`` (plain text without markup)."""
    axes.figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    buffer = io.StringIO()
    axes.figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text[text.index("<svg") :])
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"font(?:-family)?: [^;\"]*sans-serif[^;\"]*", lambda m: _font(m[0]), text)
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _font(style: str) -> str:
    size = re.search(r"[\d.]+px", style)
    return f"font: {size[0]} system-ui, sans-serif" if size else "font-family: system-ui, sans-serif"


def _smooth(values: Sequence[float], width: int) -> list[float]:
    windows = [values[max(0, i - width // 2) : i + width // 2 + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def loss_curve(log: Sequence[dict]) -> str | None:
    """Training loss of each logged step and validation loss of each evaluation, as SVG.

    Args:
        log: Trainer records in order: ``step`` with ``loss`` or ``eval_loss``.

    Returns:
        The element, or None if nothing was logged.
    """
    train = [(row["step"], row["loss"]) for row in log if "loss" in row]
    val = [(row["step"], row["eval_loss"]) for row in log if "eval_loss" in row]
    if not train and not val:
        return None
    with matplotlib.rc_context(_STYLE):
        axes = _axes()
        if train:
            steps, losses = zip(*train, strict=True)
            if len(train) > 100:
                width = len(train) // 50 * 2 + 1
                axes.plot(steps, losses, color=ACCENT, linewidth=0.8, alpha=0.3)
                axes.plot(steps, _smooth(losses, width), color=ACCENT, label=f"training (mean of {width} records)")
            else:
                axes.plot(steps, losses, color=ACCENT, linewidth=1.6, label="training")
        if val:
            style = {"color": SECOND, "linewidth": 1.6, "marker": "o", "markersize": 4}
            axes.plot(*zip(*val, strict=True), label="validation", **style)
        axes.set_ylabel("loss (nats a token)")
        axes.set_ylim(bottom=0)
        axes.legend()
        last = f"training loss {train[0][1]:.2f} to {train[-1][1]:.2f}" if train else ""
        held_out = f"validation loss {val[0][1]:.2f} to {val[-1][1]:.2f}" if val else ""
        return _svg(axes, f"Loss by step: {'; '.join(filter(None, (last, held_out)))}")


def learning_rate_curve(log: Sequence[dict]) -> str | None:
    """Learning rates by step, as SVG; None if none was logged.

    Args:
        log: Trainer records in order: ``step`` with ``learning_rate_lora`` and ``learning_rate_projectors``.
    """
    lines = {"LoRA": ("learning_rate_lora", ACCENT, "-"), "projectors": ("learning_rate_projectors", SECOND, "--")}
    curves = {
        name: ([(row["step"], row[key]) for row in log if key in row], colour, style)
        for name, (key, colour, style) in lines.items()
    }
    if not any(points for points, *_ in curves.values()):
        return None
    with matplotlib.rc_context(_STYLE):
        axes = _axes()
        for name, (points, colour, style) in curves.items():
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.6, label=name)
        axes.set_ylabel("learning rate")
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        axes.legend()
        peaks = [f"{name} at most {max(rate for _, rate in points):.1e}" for name, (points, *_) in curves.items()]
        return _svg(axes, f"Learning rate by step: {', '.join(peaks)}")
