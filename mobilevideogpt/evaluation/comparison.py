"""A comparison of runs: their scores on the samples that they share, and paired tests of each pair.

The tests are those of `mobilevideogpt.evaluation.statistics`, on groups, exact, with p-values adjusted for the number
of pairs (Holm). The first of `MEASURES` that fits the task decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from mobilevideogpt.evaluation import statistics
from mobilevideogpt.evaluation.conclusion import GAIN, Tone
from mobilevideogpt.evaluation.evaluated_run import EvaluatedRun
from mobilevideogpt.evaluation.formatting import comparison_text, groups_text, plural, points
from mobilevideogpt.evaluation.metrics import judge, score
from mobilevideogpt.evaluation.scoring import Task, task_of
from mobilevideogpt.evaluation.shared_samples import SharedSamples, share_samples

# Column of `judge`, by the name of the measure in metrics.json.
COLUMNS = {
    "exercise_accuracy": "exercise_right",
    "feedback_accuracy": "feedback_right",
    "set_f1": "set_f1",
    "rougeL": "rougeL",
}
MOST_SENTENCES = 6
DECISIVE = {"exercises": "exercise_accuracy", "feedback": "feedback_accuracy", "answers": "rougeL"}


@dataclass(frozen=True)
class PairTest:
    """The second run of a pair against the first, by one measure; ``p`` is adjusted for the number of pairs."""

    measure: str
    found: statistics.Comparison
    p: float


@dataclass(frozen=True)
class Pair:
    """Two runs.

    Attributes:
        first: A run's name.
        second: Another's.
        tests: The decisive one first.
        better: The run that is better, ``""`` where both are equal to within `GAIN`, or None for "cannot tell".
        sentences: What follows from the decisive test.
        differing_answers: Number of samples with different answers.
    """

    first: str
    second: str
    tests: Sequence[PairTest]
    better: str | None
    sentences: Sequence[str]
    differing_answers: int


@dataclass(frozen=True)
class DifferingSample:
    """A shared sample on which the answers differ.

    Attributes:
        predictions: By run.
        values: The decisive measure, by run; None where it cannot be computed.
    """

    predictions: Mapping[str, Mapping]
    values: Mapping[str, float | None]

    @property
    def spread(self) -> float:
        """Difference between the best and the worst run."""
        known = [value for value in self.values.values() if value is not None]
        return max(known) - min(known) if known else 0.0


@dataclass(frozen=True)
class RunComparison:
    """What a comparison of runs found.

    Attributes:
        runs: Names, in the order asked for.
        task: What the answers are about; that of all runs.
        shared: The samples that are compared.
        decisive: Measure that the conclusion follows from.
        scores: Run to its scores on these samples, as `mobilevideogpt.evaluation.metrics.score` returns them.
        base: Scores of the base, if all runs had the same answers of it; else None.
        pairs: Every pair.
        differing: The samples with different answers, the largest difference first.
        tone: ``good`` if every pair is decided, ``open`` if none is.
        headline: The conclusion.
        sentences: Its grounds, and what limits it.
    """

    runs: Sequence[str]
    task: Task
    shared: SharedSamples
    decisive: str
    scores: Mapping[str, Mapping]
    base: Mapping | None
    pairs: Sequence[Pair]
    differing: Sequence[DifferingSample]
    tone: Tone
    headline: str
    sentences: Sequence[str]

    def to_json(self) -> dict:
        """Return the comparison as a JSON object."""
        shared = self.shared
        return {
            "runs": list(self.runs),
            "tone": self.tone.value,
            "headline": self.headline,
            "sentences": list(self.sentences),
            "subject": self.task.subject,
            "decisive": self.decisive,
            "samples": {
                "shared": shared.n,
                "groups": len({row["group"] for row in shared.rows[self.runs[0]]}),
                "same_split": shared.same_split,
                "refusal": shared.refusal(),
                "only": {run: list(clips) for run, clips in shared.only.items()},
                "other_reference": list(shared.other_reference),
                "favoured": list(shared.favoured),
                "seen_by_all": list(shared.seen_by_all),
                "training_unknown": list(shared.unknown),
            },
            "scores": dict(self.scores) | ({"(base)": self.base} if self.base else {}),
            "pairs": [_pair_json(pair) for pair in self.pairs],
            "differing": [_sample_json(sample) for sample in self.differing],
        }


def compare_runs(runs: Sequence[EvaluatedRun]) -> RunComparison:
    """Compare two or more runs on the test samples that they share.

    Raises:
        InputError: If they share none.
    """
    shared = share_samples(runs)
    task = _task(runs, shared)
    names = [run.name for run in runs]
    judged = {name: judge(shared.rows[name], "finetuned", task) for name in names}
    measures = _measures(task, judged[names[0]])
    pairs = _pairs(names, shared, judged, measures)
    bases = [[row["base"] for row in rows] for rows in shared.rows.values()]
    decided = [pair.better is not None for pair in pairs]
    return RunComparison(
        runs=names,
        task=task,
        shared=shared,
        decisive=measures[0],
        scores={name: score(shared.rows[name], "finetuned", task) for name in names},
        base=score(shared.rows[names[0]], "base", task) if all(answers == bases[0] for answers in bases) else None,
        pairs=pairs,
        differing=_differing(names, shared, judged, COLUMNS[measures[0]]),
        tone=Tone.GOOD if all(decided) else Tone.MIXED if any(decided) else Tone.OPEN,
        headline=_headline(names, pairs),
        sentences=_sentences(pairs),
    )


def _task(runs: Sequence[EvaluatedRun], shared: SharedSamples) -> Task:
    """The task of all runs. Where one run's prompts name the exercise, naming it proves nothing about any of them."""
    trained = [sample for run in runs for sample in (run.samples or {}).get("train", ())]
    task = task_of([row for rows in shared.rows.values() for row in rows], trained)
    names_exercise = any(task_of(rows, trained).prompt_names_exercise for rows in shared.rows.values())
    return replace(task, prompt_names_exercise=names_exercise)


def _measures(task: Task, judged: pd.DataFrame) -> list[str]:
    """The measures that can be computed; the decisive one is first."""
    possible = [name for name, column in COLUMNS.items() if judged[column].notna().to_numpy().any()]
    if task.free_text:
        possible.remove("exercise_accuracy")
    decisive = DECISIVE[task.subject] if DECISIVE[task.subject] in possible else "rougeL"
    return [decisive, *(name for name in possible if name != decisive)]


def _pairs(
    names: Sequence[str], shared: SharedSamples, judged: Mapping[str, pd.DataFrame], measures: Sequence[str]
) -> list[Pair]:
    couples = list(combinations(names, 2))
    tests: dict[tuple[str, str], list[PairTest]] = {couple: [] for couple in couples}
    for measure in measures:
        found = [_compare(judged[one], judged[other], COLUMNS[measure]) for one, other in couples]
        adjusted = statistics.holm([comparison.p for comparison in found])
        for couple, comparison, p in zip(couples, found, adjusted, strict=True):
            tests[couple].append(PairTest(measure, comparison, p))
    return [_pair(*couple, tests[couple], shared, judged, len(couples)) for couple in couples]


def _values(judged: pd.DataFrame, column: str) -> np.ndarray:
    return judged[column].dropna().to_numpy(float)


def _compare(first: pd.DataFrame, second: pd.DataFrame, column: str) -> statistics.Comparison:
    """The second against the first; both have the same references, so the same values are missing."""
    groups = list(first.group[first[column].notna()])
    return statistics.compare(list(_values(second, column)), list(_values(first, column)), groups)


def _pair(
    first: str,
    second: str,
    tests: Sequence[PairTest],
    shared: SharedSamples,
    judged: Mapping[str, pd.DataFrame],
    n_pairs: int,
) -> Pair:
    decisive = tests[0]
    found = decisive.found
    answers = zip(shared.rows[first], shared.rows[second], strict=True)
    differing = sum(one["finetuned"] != other["finetuned"] for one, other in answers)
    adjusted = f" (p adjusted for {n_pairs} pairs)" if n_pairs > 1 else ""
    sentences = [f"{second} against {first}: {comparison_text(found, decisive.p)}{adjusted}."]
    if decisive.p < statistics.LEVEL and found.difference:
        better = second if found.difference > 0 else first
    elif max(-found.interval.low, found.interval.high) < GAIN:
        better = ""
        sentences.append(f"The interval excludes a difference of {points(GAIN)}.")
    else:
        better = None
        if not differing:
            sentences.append("All answers are equal.")
        needed = _groups_needed(first, second, decisive, judged, statistics.LEVEL / n_pairs)
        sentences.append(groups_text(needed, found, _gain(found), "difference"))
    return Pair(first, second, tests, better, sentences, differing)


def _gain(found: statistics.Comparison) -> float:
    """The difference to look for: the one found, unless that is too small to matter."""
    return max(abs(found.difference), GAIN)


def _groups_needed(first: str, second: str, test: PairTest, judged: Mapping[str, pd.DataFrame], level: float) -> int:
    """Number of groups that find such a difference at a level."""
    found, column = test.found, COLUMNS[test.measure]
    if test.measure in ("exercise_accuracy", "feedback_accuracy"):
        return statistics.groups_to_detect(
            _gain(found), ((found.better or 0) + (found.worse or 0)) / found.groups, level
        )
    one, other = (_values(judged[name], column) for name in (first, second))
    groups = list(judged[first].group[judged[first][column].notna()])
    differences = statistics.group_means(other - one, groups)
    deviation = float(differences.std(ddof=1)) if len(differences) > 1 else 1.0
    return statistics.groups_to_detect_mean(_gain(found), deviation, level)


def _headline(names: Sequence[str], pairs: Sequence[Pair]) -> str:
    if len(pairs) == 1:
        (pair,) = pairs
        if pair.better:
            return f"{pair.better} is better than {pair.second if pair.better == pair.first else pair.first}"
        if pair.better == "":
            return f"{pair.first} and {pair.second} differ by less than {points(GAIN)}"
        return f"The test cannot tell {pair.first} and {pair.second} apart"
    wins = {name: sum(pair.better == name for pair in pairs) for name in names}
    if best := next((name for name, n in wins.items() if n == len(names) - 1), None):
        return f"{best} is better than each of the others"
    if any(wins.values()):
        found = [f"{p.better} is better than {p.second if p.better == p.first else p.first}" for p in pairs if p.better]
        return f"No run is better than all others, but {'; '.join(found)}"
    if all(pair.better == "" for pair in pairs):
        return f"The runs differ by less than {points(GAIN)}"
    return f"The test cannot tell the {plural(len(names), 'run')} apart"


def _sentences(pairs: Sequence[Pair]) -> list[str]:
    """The grounds in a few sentences: of many pairs, those that are decided."""
    if len(pairs) == 1:
        return list(pairs[0].sentences)
    shown = list(pairs) if len(pairs) <= MOST_SENTENCES else [pair for pair in pairs if pair.better]
    sentences = [" ".join(pair.sentences) for pair in shown[:MOST_SENTENCES]]
    if len(pairs) > len(sentences):
        told, still_open = sum(bool(pair.better) for pair in pairs), sum(pair.better is None for pair in pairs)
        sentences.append(
            f"Of {len(pairs)} pairs, {told} are told apart, {len(pairs) - told - still_open} differ by less than "
            f"{points(GAIN)}, and {still_open} are open."
        )
    return sentences


def _differing(
    names: Sequence[str], shared: SharedSamples, judged: Mapping[str, pd.DataFrame], column: str
) -> list[DifferingSample]:
    values = {name: [None if pd.isna(x) else float(x) for x in judged[name][column]] for name in names}
    found = []
    for i in range(shared.n):
        rows = {name: shared.rows[name][i] for name in names}
        if len({row["finetuned"] for row in rows.values()}) > 1:
            found.append(DifferingSample(rows, {name: values[name][i] for name in names}))
    return sorted(found, key=lambda sample: -sample.spread)


def _pair_json(pair: Pair) -> dict:
    tests = [
        {"measure": test.measure, "p_adjusted": test.p, "decides": i == 0, **asdict(test.found)}
        for i, test in enumerate(pair.tests)
    ]
    return {
        "first": pair.first,
        "second": pair.second,
        "better": pair.better or None,
        "equal": pair.better == "",
        "sentences": list(pair.sentences),
        "differing_answers": pair.differing_answers,
        "tests": tests,
    }


def _sample_json(sample: DifferingSample) -> dict:
    first = next(iter(sample.predictions.values()))
    return {
        **{name: first[name] for name in ("video", "exercise", "group", "reference")},
        "prompts": {run: row["prompt"] for run, row in sample.predictions.items()},
        "answers": {run: row["finetuned"] for run, row in sample.predictions.items()},
        "values": dict(sample.values),
    }
