"""The conclusion from the scores, in plain words."""

import math
from dataclasses import dataclass
from enum import Enum, StrEnum

from mobilevideogpt.evaluation.formatting import count, percent
from mobilevideogpt.evaluation.metrics import feedback_decides, is_free_text

SMALL = 30  # with fewer test clips, the page cautions against small differences


class Tone(StrEnum):
    """How good the news is; names a style of the page."""

    GOOD = "good"
    MIXED = "mixed"
    BAD = "bad"


class Grounding(Enum):
    """Whether the grounding control shows that the model looks at the video."""

    LOOKS = "looks"
    IGNORES = "ignores"
    UNDECIDED = "undecided"


GROUNDING_TEXTS = {
    Grounding.LOOKS: "it looks at the video",
    Grounding.IGNORES: "it hardly looks at the video",
    Grounding.UNDECIDED: "it is not clear whether it looks at the video",
}


@dataclass(frozen=True)
class Conclusion:
    """What the page says at its top; ``caution`` is None if the test split is large."""

    tone: Tone
    headline: str
    sentences: list[str]
    caution: str | None


@dataclass(frozen=True)
class _Evidence:
    """What the scores show, about ``accuracy``: the share of ``n`` test clips with a correct ``subject``."""

    subject: str
    accuracy: float
    n: int
    learned: bool
    grounding: Grounding
    sentences: list[str]


def conclude(metrics: dict) -> Conclusion:
    """Conclude what the model learned and whether it looks at the video.

    Args:
        metrics: As `mobilevideogpt.evaluation.evaluate.evaluate` returns them.
    """
    if not feedback_decides(metrics["settings"]):
        evidence = _exercise_evidence(metrics)
    elif metrics["finetuned"]["feedback_accuracy"] is not None:
        evidence = _feedback_evidence(metrics)
    else:
        return Conclusion(
            Tone.MIXED,
            "The scores cannot show what the model learned: no reference contains feedback",
            [_premise(metrics), "Without feedback in the references, only ROUGE-L compares the answers."],
            None,
        )
    learned, looks = evidence.learned, evidence.grounding is Grounding.LOOKS
    if learned and looks:
        tone = Tone.GOOD
    elif learned and evidence.grounding is Grounding.UNDECIDED:
        tone = Tone.MIXED
    else:
        tone = Tone.BAD
    achieved = f"{'The model' if learned else 'The test does not show that the model'} learned the {evidence.subject}"
    headline = f"{achieved}, {'and' if learned == looks else 'but'} {GROUNDING_TEXTS[evidence.grounding]}"
    return Conclusion(tone, headline, evidence.sentences, _caution(evidence))


def wilson_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default."""
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def _feedback_evidence(metrics: dict) -> _Evidence:
    """Compare the feedback, or the whole answer where it is free text."""
    base, tuned, control = (metrics[name]["feedback_accuracy"] for name in ("base", "finetuned", "mismatched_video"))
    kept, n = metrics["mismatched_video"]["kept_answer"], metrics["finetuned"]["n_feedback"]
    subject = "answers" if is_free_text(metrics["settings"]["answers"]) else "feedback"
    learned, change = _change(base, tuned, n, f"correct {subject}")
    if kept is None or tuned < 0.2:
        grounding = Grounding.UNDECIDED
    elif kept >= 0.5:
        grounding = Grounding.IGNORES
    else:
        grounding = Grounding.LOOKS if tuned - control >= 0.2 else Grounding.UNDECIDED
    shown = (
        "The control shows another exercise's clip under the same prompt. The model then gave the "
        f"{subject} of the prompt's own clip in {count(control, n)} cases (with that clip: {count(tuned, n)})"
    )
    if kept is None:
        shown += ". No shown clip calls for another answer"
    else:
        differing = count(kept, metrics["mismatched_video"]["n_differing"])
        shown += f". It kept its whole answer in {differing} cases where the shown clip calls for another"
    sentences = [_premise(metrics), change, f"{shown}: {GROUNDING_TEXTS[grounding]}."]
    return _Evidence(subject, tuned, n, learned, grounding, sentences)


def _exercise_evidence(metrics: dict) -> _Evidence:
    """Compare the exercises that the answers name."""
    base, tuned, control = (metrics[name] for name in ("base", "finetuned", "mismatched_video"))
    accuracy, n = tuned["exercise_accuracy"], tuned["n"]
    learned, change = _change(base["exercise_accuracy"], accuracy, n, "correctly named exercises")
    if tuned["feedback_accuracy"] is not None:
        before, after = percent(base["feedback_accuracy"]), percent(tuned["feedback_accuracy"])
        change += f" The correct feedback after the name changed from {before} to {after}."
    kept, shown = control["kept_exercise"], control["shown_exercise_accuracy"]
    if kept >= 0.5:
        grounding = Grounding.IGNORES
    else:
        grounding = Grounding.LOOKS if shown >= 0.5 and kept <= 0.25 else Grounding.UNDECIDED
    control_sentence = (
        "The control shows another exercise's clip under the same prompt. The model then named the shown exercise in "
        f"{count(shown, n)} cases and kept its answer in {count(kept, n)}: {GROUNDING_TEXTS[grounding]}."
    )
    return _Evidence("exercises", accuracy, n, learned, grounding, [change, control_sentence])


def _premise(metrics: dict) -> str:
    """Why the feedback decides."""
    if is_free_text(metrics["settings"]["answers"]):
        return "The answers are free text. An answer is correct if it matches the reference word for word."
    return "The prompt names the exercise, so naming it proves nothing. The feedback after the name decides."


def _change(base: float, finetuned: float, n: int, what: str) -> tuple[bool, str]:
    """Whether fine-tuning raised a share of the test clips beyond chance, and a sentence about it."""
    before, after = count(base, n), count(finetuned, n)
    if finetuned == base:
        return False, f"Fine-tuning left {what} unchanged at {after} test clips."
    if finetuned < base:
        return False, f"Fine-tuning lowered {what} from {before} to {after} test clips."
    beyond_chance = wilson_interval(round(finetuned * n), n)[0] > base
    sentence = f"Fine-tuning raised {what} from {before} to {after} test clips"
    return beyond_chance, f"{sentence}{'' if beyond_chance else ', possibly by chance'}."


def _caution(evidence: _Evidence) -> str | None:
    n, hits = evidence.n, round(evidence.accuracy * evidence.n)
    if n >= SMALL:
        return None
    low, high = map(percent, wilson_interval(hits, n))
    return (
        f"There {'is only one test clip' if n == 1 else f'are only {n} test clips'}. {hits} of {n} correct is "
        f"compatible with a true rate from {low} to {high} (95 % interval). Treat differences of one or two clips as "
        "noise."
    )
