"""What differs between runs: settings, data, base, code and versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobilevideogpt.evaluation.evaluated_run import EvaluatedRun
from mobilevideogpt.evaluation.scoring import turns
from mobilevideogpt.files import json_digest
from mobilevideogpt.settings import flatten

# Of the configuration: names of the call, and groups that shape no result. metrics.json has the evaluation's settings.
NOT_COMPARED = {"run", "runs", "video", "prompt", "exercise", "evaluate", "preflight"}
# Of the run record.
RECORDED = (
    *("base", "digests", "epochs", "steps", "resumed_from", "keep", "kept", "parameters", "precision", "batch"),
    *("deepspeed", "world_size", "versions", "git_revision", "truncated_texts"),
)
MISSING = None  # a run has no such value


@dataclass(frozen=True)
class Difference:
    """A value that differs between runs; ``values`` by run, None where a run has none."""

    name: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class DataOfRuns:
    """What the runs were trained and tested on.

    Attributes:
        counts: Split to the number of samples of each run; None where a run does not say.
        digests: Split to a digest of each run's clips, prompts and answers, likewise.
        only: Run to the clips in its training split that are in no other run's; none unless all runs say theirs.
    """

    counts: Mapping[str, Mapping[str, int | None]]
    digests: Mapping[str, Mapping[str, str | None]]
    only: Mapping[str, Sequence[str]]

    def same(self, split: str) -> bool | None:
        """Whether all runs had the same samples; None if that is unknown."""
        digests = set(self.digests[split].values())
        return None if None in digests else len(digests) == 1


def settings_that_differ(runs: Sequence[EvaluatedRun]) -> list[Difference]:
    """Compare the settings that trained the adapters, and those of the evaluations."""
    return _differing(
        {
            run.name: {
                **dict(flatten({name: group for name, group in run.config.items() if name not in NOT_COMPARED})),
                **{f"evaluate.{name}": value for name, value in run.metrics["settings"].items()},
            }
            for run in runs
        }
    )


def circumstances_that_differ(runs: Sequence[EvaluatedRun]) -> list[Difference]:
    """Compare what the run records say beside the settings."""
    records = {
        run.name: dict(flatten({name: run.train[name] for name in RECORDED if name in run.train})) for run in runs
    }
    return _differing(records)


def _differing(values: Mapping[str, Mapping[str, object]]) -> list[Difference]:
    names = dict.fromkeys(name for of_run in values.values() for name in of_run)
    rows = [Difference(name, {run: of_run.get(name, MISSING) for run, of_run in values.items()}) for name in names]
    return [row for row in rows if len({json_digest(value) for value in row.values.values()}) > 1]


def data_of(runs: Sequence[EvaluatedRun]) -> DataOfRuns:
    """Compare the samples of each split."""
    samples = {
        run.name: {
            **{split: _trained_on(run, split) for split in ("train", "val")},
            "test": [[row["video"], row["prompt"], row["reference"]] for row in run.predictions],
        }
        for run in runs
    }
    counts: dict[str, dict[str, int | None]] = {}
    digests: dict[str, dict[str, str | None]] = {}
    for split in ("train", "val", "test"):
        lists = {name: of_run[split] for name, of_run in samples.items()}
        counts[split] = {name: None if rows is None else len(rows) for name, rows in lists.items()}
        digests[split] = {name: None if rows is None else json_digest(sorted(rows)) for name, rows in lists.items()}
    known = all(run.samples for run in runs)
    clips = {name: {row[0] for row in of_run["train"] or ()} if known else set() for name, of_run in samples.items()}
    only = {
        name: sorted(mine.difference(*(others for other, others in clips.items() if other != name)))
        for name, mine in clips.items()
    }
    return DataOfRuns(counts, digests, only)


def _trained_on(run: EvaluatedRun, split: str) -> list[list[str]] | None:
    if not run.samples:
        return None
    return [[sample["video"], *turns(sample)] for sample in run.samples[split]]
