"""What the scores mean, in plain words."""

import math

SMALL = 30  # test clips below which a share says little


def interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share."""
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def percent(share: float | None) -> str:
    """``0.833`` as ``83 %`` (with a space that does not break), None as a dash."""
    return "–" if share is None else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def of(share: float, n: int) -> str:
    """``0.833`` of 6 as ``5 of 6``."""
    return f"{round(share * n)} of {n}"


def _learned(base: float, finetuned: float, n: int, what: str) -> tuple[bool, str]:
    before, after = of(base, n), of(finetuned, n)
    if finetuned == base:
        return False, f"Fine-tuning left {what} where it was, at {after} test clips."
    if finetuned < base:
        return False, f"Fine-tuning lowered {what} from {before} to {after} test clips."
    sure = interval(round(finetuned * n), n)[0] > base
    return (
        sure,
        f"Fine-tuning raised {what} from {before} to {after} test clips{'' if sure else ', maybe by chance'}.",
    )


def verdict(metrics: dict) -> dict:
    """Judge what was learned and whether the model looks at the video.

    Args:
        metrics: As `mobilevideogpt.evaluation.evaluate.evaluate` returns them.

    Returns:
        ``tone`` (good, mixed or bad), ``headline``, ``sentences`` and ``caution`` (None for a large test split).
    """
    base, tuned, control = metrics["base"], metrics["finetuned"], metrics["mismatched_video"]
    free = metrics["settings"].get("answers", "labels") != "labels"
    named = metrics["settings"]["prompt_names_exercise"] or free
    subject = ("answers" if free else "feedback") if named else "exercises"
    n = tuned["n_feedback" if named else "n"]
    sentences = []
    if named:
        part = "feedback_accuracy"
        sentences.append(
            "The answers are free text, and one counts as correct if it is the reference word for word."
            if free
            else "The prompt names the exercise, so naming it proves nothing; what counts is the feedback after it."
        )
        if tuned[part] is None:
            return {
                "tone": "mixed",
                "headline": "The scores cannot tell whether it learned: no reference holds feedback",
                "sentences": [*sentences, "Without feedback in the references, only ROUGE-L compares the answers."],
                "caution": None,
            }
        hits = round(tuned[part] * n)
        learned, sentence = _learned(base[part], tuned[part], n, f"correct {subject}")
        sentences.append(sentence)
        kept, gap = control["kept_answer"], tuned[part] - control[part]
        sentence = (
            f"Shown another exercise's clip under the same prompt, the model gave the {subject} of its own clip in "
            f"{of(control[part], n)} cases (with its own video: {of(tuned[part], n)})"
        )
        if kept is None:
            sentences.append(f"{sentence}, but no clip that was shown calls for another answer")
        else:
            differing = of(kept, control["n_differing"])
            sentences.append(f"{sentence} and kept its whole answer in {differing} whose shown clip calls for another")
        looks = None if kept is None or tuned[part] < 0.2 else False if kept >= 0.5 else True if gap >= 0.2 else None
    else:
        part = "exercise_accuracy"
        hits = round(tuned[part] * n)
        learned, sentence = _learned(base[part], tuned[part], n, "exercises named right")
        if tuned["feedback_accuracy"] is not None:
            sentence += (
                f" The feedback after the name went from {percent(base['feedback_accuracy'])} "
                f"to {percent(tuned['feedback_accuracy'])} correct."
            )
        sentences.append(sentence)
        kept, shown = control["kept_exercise"], control["shown_exercise_accuracy"]
        sentences.append(
            f"Shown another exercise's clip under the same prompt, the model named what was shown in {of(shown, n)} "
            f"cases and kept its answer in {of(kept, n)}"
        )
        looks = False if kept >= 0.5 else True if shown >= 0.5 and kept <= 0.25 else None
    said = {
        True: "it looks at the video",
        False: "it hardly looks at the video",
        None: "whether it looks at the video stays open",
    }[looks]
    sentences[-1] += f": {said}."
    achieved = f"{'The model' if learned else 'The test does not show that it'} learned the {subject}"
    joint = "and" if learned == (looks is True) else "but"
    low, high = interval(hits, n)
    caution = None
    if n < SMALL:
        clips = "one test clip" if n == 1 else f"{n} test clips"
        caution = (
            f"There are only {clips}. {hits} of {n} right is compatible with a true rate anywhere from "
            f"{percent(low)} to {percent(high)} (95 % interval), so take differences of one or two clips as noise."
        )
    return {
        "tone": "good" if learned and looks else "bad" if looks is False or not learned else "mixed",
        "headline": f"{achieved}, {joint} {said}",
        "sentences": sentences,
        "caution": caution,
    }
