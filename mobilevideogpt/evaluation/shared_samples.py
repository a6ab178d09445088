"""The test samples on which runs can be compared.

A sample is shared if every run was tested on it: the same clip with the same reference. The prompt counts, too, where
a run asks several questions about a clip that have one answer. Elsewhere it is a setting of the run, and runs with
other prompts can be compared.

A shared sample is excluded if some of the runs were trained or validated on its clip, or on a clip of its recording or
person, and others were not: it would favour the former. All runs are compared on the same samples, so that the scores,
the tests and the clips of the page are about one thing. Of three runs, two may share more; compare these two alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.evaluated_run import EvaluatedRun
from mobilevideogpt.evaluation.formatting import plural
from mobilevideogpt.evaluation.scoring import fold, group_of

EXAMPLES = 3
REMEDY = (
    "To compare whole splits, fix one split with `snakemake pin_splits`, and train and evaluate each run on it with "
    "its own settings."
)


@dataclass(frozen=True)
class SharedSamples:
    """The samples that all runs were tested on and none was favoured on.

    Attributes:
        rows: Run to its predictions, in one order of the samples. ``group`` joins the groups of all runs.
        only: Run to the clips of samples that other runs were not tested on.
        other_reference: Of these clips, those that other runs were tested on with another reference or question.
        favoured: Clips that were excluded, since some runs were trained or validated on them or on their group.
        seen_by_all: Clips whose recording or person all runs were trained or validated on.
        unknown: Runs that do not say what they were trained on.
    """

    rows: Mapping[str, Sequence[Mapping]]
    only: Mapping[str, Sequence[str]]
    other_reference: Sequence[str]
    favoured: Sequence[str]
    seen_by_all: Sequence[str]
    unknown: Sequence[str]

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(next(iter(self.rows.values())))

    @property
    def same_split(self) -> bool:
        """Whether each run's whole test split is compared."""
        return not self.favoured and not any(self.only.values())

    def refusal(self) -> list[str]:
        """Say in sentences why the whole splits are not compared; empty if they are."""
        if self.same_split:
            return []
        sentences = ["The test splits of the runs differ. Scores on whole splits are therefore not compared."]
        for run, clips in self.only.items():
            if clips:
                tested = plural(len(clips) + self.n + len(self.favoured), "test sample")
                sentences.append(f"{len(clips)} of the {tested} of {run} are not shared by all ({_examples(clips)}).")
        if clips := self.other_reference:
            sentences.append(
                f"{plural(len(clips), 'clip')} of these {'has' if len(clips) == 1 else 'have'} another reference or "
                f"question in another run ({_examples(clips)})."
            )
        if clips := self.favoured:
            sentences.append(
                f"{plural(len(clips), 'shared sample')} {'was' if len(clips) == 1 else 'were'} excluded, because some "
                f"runs were trained or validated on the clip, its recording or its person ({_examples(clips)})."
            )
        return sentences


def share_samples(runs: Sequence[EvaluatedRun]) -> SharedSamples:
    """Find the samples on which the runs can be compared.

    Raises:
        InputError: If there are none; the message says why, with examples and the remedy.
    """
    with_prompt = any(_repeats(run.predictions) for run in runs)
    tested = {run.name: _by_key(run.predictions, with_prompt) for run in runs}
    common = [key for key in tested[runs[0].name] if all(key in rows for rows in tested.values())]
    only = {name: [key[0] for key in rows if key not in set(common)] for name, rows in tested.items()}
    clips = {name: {key[0] for key in rows} for name, rows in tested.items()}
    other_reference = {
        clip
        for name, mine in only.items()
        for clip in mine
        if any(clip in clips[other] for other in clips.keys() - {name})
    }
    joined = _joined_groups(runs)
    seen = {run.name: {joined[sample["video"]] for sample in _learned_from(run)} for run in runs if run.samples}
    kept, favoured, seen_by_all = [], [], []
    for key in common:
        seen_by = sum(joined[key[0]] in groups for groups in seen.values())
        if 0 < seen_by < len(runs):
            favoured.append(key[0])
            continue
        kept.append(key)
        if seen_by:
            seen_by_all.append(key[0])
    shared = SharedSamples(
        rows={name: [rows[key] | {"group": joined[key[0]]} for key in kept] for name, rows in tested.items()},
        only=only,
        other_reference=sorted(other_reference),
        favoured=favoured,
        seen_by_all=seen_by_all,
        unknown=[run.name for run in runs if not run.samples],
    )
    if not kept:
        sentences = shared.refusal()
        raise InputError(
            f"no test sample can be compared between {_listed([run.name for run in runs])}. "
            f"{' '.join(sentences[1:])} {REMEDY}"
        )
    return shared


def _repeats(rows: Iterable[Mapping]) -> bool:
    """Whether several samples have the same clip and reference."""
    counts = Counter((row["video"], fold(row["reference"])) for row in rows)
    return max(counts.values()) > 1


def _by_key(rows: Iterable[Mapping], with_prompt: bool) -> dict[tuple, dict]:
    """Predictions by what makes them the same sample; of equal samples, each has a number."""
    found: dict[tuple, dict] = {}
    counts: Counter[tuple] = Counter()
    for row in rows:
        key = (row["video"], fold(row["reference"]), fold(row["prompt"]) if with_prompt else "")
        found[*key, counts[key]] = dict(row)
        counts[key] += 1
    return found


def _learned_from(run: EvaluatedRun) -> Iterable[Mapping]:
    """Samples that shaped the adapter: the validation split chooses it."""
    return chain.from_iterable((run.samples or {}).values())


def _joined_groups(runs: Sequence[EvaluatedRun]) -> dict[str, str]:
    """Clip to the name of its group; clips that one of the runs keeps together are in one group."""
    samples = chain.from_iterable(chain(run.predictions, _learned_from(run)) for run in runs)
    pairs = list(dict.fromkeys((sample["video"], group_of(sample)) for sample in samples))
    number = {name: i for i, name in enumerate(dict.fromkeys(chain.from_iterable(pairs)))}
    ends = np.array([[number[name] for name in pair] for pair in pairs])
    edges = coo_array((np.ones(len(pairs)), (ends[:, 0], ends[:, 1])), shape=(len(number),) * 2)
    _, component = connected_components(edges, directed=False)
    first: dict[int, str] = {}
    return {name: first.setdefault(int(component[i]), name) for name, i in number.items()}


def _examples(clips: Sequence[str]) -> str:
    listed = list(dict.fromkeys(clips))
    shown = ", ".join(listed[:EXAMPLES])
    return f"{shown}, and {len(listed) - EXAMPLES} more" if len(listed) > EXAMPLES else shown


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
