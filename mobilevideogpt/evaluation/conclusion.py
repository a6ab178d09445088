"""The conclusion from the predictions: whether the model learned, and whether it looks at the video.

    python -m mobilevideogpt.evaluation.conclusion PREDICTIONS.jsonl --train TRAIN.json

prints it as JSON. It follows from the predictions and the training samples alone, by tests at a level of 5 %.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.formatting import comparison_text, groups_text, percent, plural, points
from mobilevideogpt.evaluation.grounding import ONE_EXERCISE
from mobilevideogpt.evaluation.scoring import Content, Task, fold, group_of, question_of, task_of, turns
from mobilevideogpt.evaluation.statistics import (
    Comparison,
    Share,
    compare,
    compare_with_share,
    groups_to_detect,
    groups_to_exceed,
    share,
)
from mobilevideogpt.files import read_json, read_json_lines

GAIN = 0.10  # a smaller gain counts as none
NEEDED = ("video", "exercise", "prompt", "reference", "base", "finetuned")
REMEDY = "run `snakemake --forcerun evaluate`"


class Tone(StrEnum):
    """How good the news is; names a style of the page."""

    GOOD = "good"
    MIXED = "mixed"  # it learned; whether it looks at the video is open
    BAD = "bad"
    OPEN = "open"  # the test cannot tell


@dataclass(frozen=True)
class Test:
    """A comparison by name; ``decides`` is whether the conclusion follows from it."""

    name: str
    comparison: Comparison
    decides: bool = False

    def to_json(self) -> dict:
        """Return the test as a JSON object."""
        found = self.comparison
        return {
            "name": self.name,
            "better": found.better,
            "worse": found.worse,
            "n": found.n,
            "groups": found.groups,
            "difference": found.difference,
            "interval": list(found.interval),
            "p": found.p,
            "decides": self.decides,
        }


@dataclass(frozen=True)
class Finding:
    """The answer to one question: True, False, or None for "cannot tell"."""

    answer: bool | None
    headline: str
    sentences: list[str]
    tests: list[Test] = field(default_factory=list)
    shares: dict[str, Share] = field(default_factory=dict)


@dataclass(frozen=True)
class Conclusion:
    """What the page says at its top, and the tests behind it."""

    learned: bool | None
    looks: bool | None
    tone: Tone
    headline: str
    sentences: list[str]
    tests: list[Test]
    shares: dict[str, Share]
    task: Task

    def to_json(self) -> dict:
        """Return the conclusion as a JSON object."""
        return {
            "learned": self.learned,
            "looks": self.looks,
            "tone": self.tone.value,
            "headline": self.headline,
            "sentences": self.sentences,
            "subject": self.task.subject,
            "tests": [test.to_json() for test in self.tests],
            "intervals": {
                name: {
                    "share": found.value,
                    "interval": list(found.interval),
                    "hits": found.hits,
                    "n": found.n,
                    "groups": found.groups,
                }
                for name, found in self.shares.items()
            },
        }


@dataclass(frozen=True)
class Rival:
    """What the fine-tuned model is compared with: answers to the same prompts, or a share expected by chance."""

    name: str
    text: str
    hits: list[bool] | None = None
    expected: float = 0.0

    def share(self, groups: Sequence[str]) -> float:
        """Share of correct answers."""
        return self.expected if self.hits is None else share(self.hits, groups).value


def conclude(rows: Sequence[Mapping], train_samples: Sequence[Mapping]) -> Conclusion:
    """Conclude what the model learned and whether it looks at the video.

    Args:
        rows: The predictions: ``video``, ``exercise``, ``prompt``, ``reference``, ``base``, ``finetuned``; for the
            control ``mismatched_video``, ``shown_video`` and ``shown_exercise``; ``group``, by default the clip.
        train_samples: ``exercise`` and ``conversations`` of the training split.

    Raises:
        InputError: If there are no rows, or one lacks a key.
    """
    if not rows:
        raise InputError(f"there are no predictions to judge; put clips in the test split and {REMEDY}")
    for i, row in enumerate(rows, 1):
        if missing := [name for name in NEEDED if not isinstance(row.get(name), str)]:
            raise InputError(f"prediction {i} ({row.get('video')}): has no {', '.join(missing)}; {REMEDY}")
    task = task_of(rows, train_samples)
    learned, looks = _learned(task, rows, train_samples), _looks(task, rows)
    return Conclusion(
        learned=learned.answer,
        looks=looks.answer,
        tone=_tone(learned.answer, looks.answer),
        headline=learned.headline + _joint(learned.answer, looks.answer) + looks.headline,
        sentences=[*_premise(task, rows), *learned.sentences, *looks.sentences],
        tests=[*learned.tests, *looks.tests],
        shares=learned.shares | looks.shares,
        task=task,
    )


def _tone(learned: bool | None, looks: bool | None) -> Tone:
    if learned is False or looks is False:
        return Tone.BAD
    if learned is None:
        return Tone.OPEN
    return Tone.GOOD if looks else Tone.MIXED


def _joint(learned: bool | None, looks: bool | None) -> str:
    if looks is None:
        return "; "
    return ", and " if learned is looks else ", but "


def _premise(task: Task, rows: Sequence[Mapping]) -> list[str]:
    """Which part of an answer decides and why, and what is counted."""
    sentences = []
    if task.free_text:
        sentences.append(
            "The answers are free text. An answer is correct if its labels are those of the reference, word for word."
        )
    elif task.subject == "feedback":
        reason = "The prompt names the exercise" if task.prompt_names_exercise else "The data has one exercise"
        sentences.append(f"{reason}, so naming it proves nothing. The feedback after the name decides.")
    groups = len({*map(group_of, rows)})
    if groups < len(rows):
        clips = len({row["video"] for row in rows})
        sentences.append(
            f"The {len(rows)} samples show {plural(clips, 'clip')} in {plural(groups, 'group')} that the split keeps "
            "together. Samples of one group are not independent, so the tests compare groups, and each share is the "
            "mean over groups."
        )
    return sentences


# Learned


def _learned(task: Task, rows: Sequence[Mapping], train_samples: Sequence[Mapping]) -> Finding:
    """Whether the fine-tuned model is better than the best of base, commonest answer and chance."""
    unknown = f"The test cannot tell whether the model learned the {task.subject}"
    judged = [row for row in rows if task.reference(row["reference"], row["exercise"])]
    if not judged:
        return Finding(None, unknown, ["No reference contains feedback, so no answer can be judged by it."])
    groups = [group_of(row) for row in judged]
    right = [task.reference(row["reference"], row["exercise"]) for row in judged]

    def hits(name: str) -> list[bool]:
        return [task.content(row[name]) == wanted for row, wanted in zip(judged, right, strict=True)]

    tuned = hits("finetuned")
    often = _mode([task.content(row["finetuned"]) for row in judged])
    rivals = [
        Rival("base", "the base", hits("base")),
        *_commonest(task, judged, right, train_samples),
        Rival(
            "own_commonest", f"its own commonest answer ({_shown(often, task)})", [often == wanted for wanted in right]
        ),
    ]
    if task.subject == "exercises":
        exercises = {fold(sample["exercise"]) for sample in train_samples or rows}
        rivals.append(Rival("chance", f"chance (1 of {len(exercises)} exercises)", expected=1 / len(exercises)))
    best = max(rivals, key=lambda rival: rival.share(groups))
    tests = [Test(rival.name, _against(tuned, rival, groups), rival is best) for rival in rivals]
    found = next(test.comparison for test in tests if test.decides)
    shares = {"finetuned": share(tuned, groups)}
    shares |= {rival.name: share(rival.hits, groups) for rival in rivals if rival.hits is not None}
    sentences = [_score_sentence(task, shares, best), _test_sentence(best, found)]
    if found.gain:
        return Finding(True, f"The model learned the {task.subject}", sentences, tests, shares)
    if task.free_text and not any(tuned) and not found.loss:
        sentences.append(
            "No answer is word for word right, so matches cannot tell. Compare ROUGE-L and chrF, and read the answers."
        )
        return Finding(None, unknown, sentences, tests, shares)
    if found.loss or found.interval.high < GAIN:
        compared = "worse than" if found.loss else "no better than"
        if not found.loss:
            sentences.append(f"The interval excludes a gain of {points(GAIN)}.")
        headline = f"The model did not learn the {task.subject}: it is {compared} {best.text}"
        return Finding(False, headline, sentences, tests, shares)
    sentences.append(_what_would_tell(found, best, shares["finetuned"].value))
    return Finding(None, unknown, sentences, tests, shares)


def _commonest(
    task: Task, rows: Sequence[Mapping], right: Sequence[Content], train_samples: Sequence[Mapping]
) -> list[Rival]:
    """What a model would score that only knows how often each answer occurs in the training split."""
    trained = []
    for sample in train_samples:
        prompt, response = turns(sample)
        keys = (None, fold(sample["exercise"]), question_of(prompt, sample["exercise"]))
        if content := task.reference(response, sample["exercise"]):
            trained.append((keys, content))
    if not trained:
        return []
    tested = [(None, fold(row["exercise"]), question_of(row["prompt"], row["exercise"])) for row in rows]
    noun = {"exercises": "exercise", "feedback": "feedback", "answers": "answer"}[task.subject]
    overall = _mode([content for _, content in trained])
    kinds: dict[str, tuple[str, Callable[[tuple], Hashable]]] = {
        "commonest": (f"the commonest {noun} of the training split ({_shown(overall, task)})", lambda keys: keys[0])
    }
    if task.prompt_names_exercise and task.subject != "exercises":
        kinds["commonest_of_exercise"] = (
            f"the commonest {noun} of each exercise in the training split",
            lambda keys: keys[1],
        )
    if len({keys[2] for keys in tested}) > 1:
        kinds["commonest_of_question"] = (f"the commonest {noun} to each question", lambda keys: keys[2])
        if task.prompt_names_exercise and task.subject != "exercises":
            kinds["commonest_of_exercise_and_question"] = (
                f"the commonest {noun} to each question about each exercise",
                lambda keys: keys[1:],
            )
    rivals = []
    for name, (text, key_of) in kinds.items():
        by_key = defaultdict(list)
        for keys, content in trained:
            by_key[key_of(keys)].append(content)
        modes = {key: _mode(contents) for key, contents in by_key.items()}
        hits = [modes.get(key_of(keys), overall) == wanted for keys, wanted in zip(tested, right, strict=True)]
        rivals.append(Rival(name, text, hits))
    return rivals


def _shown(content: Content, task: Task, limit: int = 80) -> str:
    text = "; ".join(sorted(map(task.spelled, content))) or "empty"
    return text if len(text) <= limit else f"{text[:limit].rstrip()}…"


def _mode(contents: Sequence[Content]) -> Content:
    """The commonest; of equally common ones, the first in the alphabet."""
    return min(Counter(contents).items(), key=lambda item: (-item[1], sorted(item[0])))[0]


def _against(hits: Sequence[bool], rival: Rival, groups: Sequence[str]) -> Comparison:
    if rival.hits is None:
        return compare_with_share(hits, groups, rival.expected)
    return compare(hits, rival.hits, groups)


def _score_sentence(task: Task, shares: Mapping[str, Share], best: Rival) -> str:
    tuned, base = shares["finetuned"], shares["base"]
    what = {
        "exercises": "names the exercise correctly",
        "feedback": "gives the correct feedback",
        "answers": "answers correctly",
    }[task.subject]
    sentence = f"The fine-tuned model {what} in {_of(tuned)}; the base in {_of(base, interval=False)}."
    if best.name == "base":
        return f"{sentence} Neither the commonest answer of the training split nor chance is better than the base."
    other = percent(best.expected) if best.hits is None else _of(shares[best.name], interval=False)
    return f"{sentence} The strongest comparison is {best.text}: {other}."


def _of(found: Share, interval: bool = True) -> str:
    """``5 of 6 samples (83 %; 95 % interval 36 % to 100 %)``."""
    inside = _inside(found) if interval else percent(found.value)
    return f"{found.hits:.0f} of {plural(found.n, 'sample')} ({inside})"


def _inside(found: Share) -> str:
    """``83 %; 95 % interval 36 % to 100 %``."""
    low, high = map(percent, found.interval)
    return f"{percent(found.value)}; 95\N{NO-BREAK SPACE}% interval {low} to {high}"


def _test_sentence(best: Rival, found: Comparison) -> str:
    return f"Against {best.text.split(' (')[0]}: {comparison_text(found)}."


def _what_would_tell(found: Comparison, best: Rival, value: float) -> str:
    """How many more clips would probably decide."""
    gain = max(found.difference, GAIN)
    if best.hits is None:
        needed = groups_to_exceed(min(1.0, max(value, best.expected + GAIN)), best.expected)
    else:
        needed = groups_to_detect(gain, ((found.better or 0) + (found.worse or 0)) / found.groups)
    return groups_text(needed, found, gain)


# Looks


def _looks(task: Task, rows: Sequence[Mapping]) -> Finding:
    """Whether the answers follow the shown clip, where it calls for another answer than the prompt's own."""
    control, reason = _control(task, rows)
    if not control:
        return Finding(
            None,
            f"the control of the video was not possible: {reason}",
            [f"Whether the model looks at the video was not tested. Not possible: {reason}."],
        )
    groups = [group_of(row) for row, _, _ in control]
    given = [(task.content(row["finetuned"]), task.content(row["mismatched_video"])) for row, _, _ in control]
    kept = [before == after for before, after in given]
    stays = [after == own for (_, after), (_, own, _) in zip(given, control, strict=True)]
    follows = [
        after == shown and not same for (_, after), (_, _, shown), same in zip(given, control, kept, strict=True)
    ]
    found, keeping = compare(follows, stays, groups), compare_with_share(kept, groups, 0.5)
    ignores = keeping.gain and not found.gain
    tests = [
        Test("follows_shown_clip", found, not ignores),
        Test("kept_answers_against_half", keeping, ignores),
    ]
    shares = {
        "follows_shown_clip": share(follows, groups),
        "stays_with_own_clip": share(stays, groups),
        "kept_answer": share(kept, groups),
    }
    sentence = (
        f"The control shows another exercise's clip under the same prompt. Where that clip calls for another answer, "
        f"{sum(follows)} of {len(control)} answers change to it, {sum(stays)} are still those of the prompt's own clip "
        f"({comparison_text(found).replace('better', 'follow').replace('worse', 'stay')}), and {sum(kept)} did not "
        f"change ({_inside(shares['kept_answer'])})."
    )
    if found.gain:
        answer, headline = True, "it looks at the video"
    elif ignores or found.loss or (found.interval.high < GAIN and (any(follows) or any(stays) or not task.free_text)):
        answer, headline = False, "it hardly looks at the video"
    else:
        answer, headline = None, "whether it looks at the video is open"
        sentence += " That does not tell whether it looks at the video."
    return Finding(answer, headline, [sentence], tests, shares)


def _control(task: Task, rows: Sequence[Mapping]) -> tuple[list[tuple[Mapping, Content, Content]], str]:
    """The rows whose shown clip calls for another answer, with the content of both; else the reason for none."""
    if len({fold(row["exercise"]) for row in rows}) < 2:
        return [], ONE_EXERCISE
    run = [row for row in rows if row.get("shown_video") and isinstance(row.get("mismatched_video"), str)]
    if not run:
        return [], "the predictions contain no answers about other clips"
    references = {
        (row["video"], question_of(row["prompt"], row["exercise"])): task.reference(row["reference"], row["exercise"])
        for row in rows
    }
    pairs = []
    for row in run:
        own = task.reference(row["reference"], row["exercise"])
        if task.subject == "exercises":
            shown = frozenset([fold(row["shown_exercise"])])
        else:
            shown = references.get((row["shown_video"], question_of(row["prompt"], row["exercise"])))
        if own and shown:
            pairs.append((row, own, shown))
    if not pairs:
        return [], "no question is asked of the shown clip, too"
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    return differing, "no shown clip calls for another answer"


# Files


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the conclusion from two files as JSON."""
    parser = argparse.ArgumentParser(description="Conclude from predictions what a model learned; print JSON.")
    parser.add_argument("predictions", type=Path, help="predictions.jsonl of a run")
    parser.add_argument("--train", type=Path, required=True, help="JSON list of the training samples")
    options = parser.parse_args(arguments)
    try:
        rows = read_json_lines(options.predictions, REMEDY, shape=dict)
        found = conclude(rows, read_json(options.train, shape=[dict]))
    except InputError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found.to_json(), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
