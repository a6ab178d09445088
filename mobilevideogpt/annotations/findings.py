"""What reading, matching and splitting found: codes, their messages, and one collector. Standard library only.

A finding is a clip, a label or an entry that was left out or guessed; many of one code make one line of the log and one
entry of the summary. A notice is a sentence about the data set as a whole.
"""

import logging
from collections import defaultdict
from enum import StrEnum

from mobilevideogpt.wording import agree, counted

log = logging.getLogger(__name__)

LISTED = 1000  # items of each code in the summary; all are counted
LOGGED = 3


class Code(StrEnum):
    """Kinds of findings and notices; the value is the ``code`` in the summary."""

    # the manifest
    EXERCISE_FROM_FOLDER = "exercise_from_folder"
    DUPLICATE_ENTRY = "duplicate_entry"
    EXCLUDED = "excluded"
    # a new manifest
    LINK_OUTSIDE = "link_outside"
    NOT_A_FILE = "not_a_file"
    MISPLACED = "misplaced"
    EXERCISE_FROM_LABEL = "exercise_from_label"
    UNUSABLE_NAME = "unusable_name"
    WITHOUT_LABEL = "without_label"
    # the clip check
    UNUSABLE_CLIP = "unusable_clip"
    DOUBTFUL_CLIP = "doubtful_clip"
    # labels
    INCOMPLETE_QUESTION = "incomplete_question"
    LABEL_WITHOUT_CLIP = "label_without_clip"
    DUPLICATE_LABEL = "duplicate_label"
    MATCHED_BY_NAME = "matched_by_name"
    OTHER_SPELLING = "other_spelling"
    OTHER_SUFFIX = "other_suffix"
    LABEL_OF_RECORDING = "label_of_recording"
    WITHOUT_ANSWER = "without_answer"
    BARE_LABEL = "bare_label"
    MISSING_DESCRIPTION = "missing_description"
    MISSING_LABEL = "missing_label"
    OTHER_EXERCISE = "other_exercise"
    FREE_TEXT = "free_text"
    FREE_TEXT_LABELS = "free_text_labels"
    LONG_ANSWER = "long_answer"
    # splits
    EQUAL_FILES = "equal_files"
    SAME_FRAMES = "same_frames"
    TOO_MANY_ALIKE = "too_many_alike"
    SEVERAL_EXERCISES = "several_exercises"
    LARGE_GROUP = "large_group"
    UNBALANCED = "unbalanced"
    ONE_EXERCISE_IN_TEST = "one_exercise_in_test"
    NO_SHARED_QUESTION = "no_shared_question"
    LEAK = "leak"
    OWN_SPLIT_USED = "own_split_used"
    OWN_SPLIT_ALL_TRAIN = "own_split_all_train"
    OWN_SPLIT_NOT_ASKED_FOR = "own_split_not_asked_for"
    OWN_SPLIT_ONLY_TRAIN = "own_split_only_train"
    OWN_SPLIT_INCOMPLETE = "own_split_incomplete"
    WITHOUT_OWN_SPLIT = "without_own_split"
    PINNED = "pinned"
    PINS_WITHOUT_CLIP = "pins_without_clip"
    EXERCISE_LACKS_SPLIT = "exercise_lacks_split"


# Of findings: the reason, which follows the number of items and agrees with it, see `wording.agree`.
REASONS = {
    Code.EXERCISE_FROM_FOLDER: "clip{s} whose exercise is the name of {its|their} folder",
    Code.DUPLICATE_ENTRY: "duplicate entr{y|ies} of the manifest",
    Code.EXCLUDED: "clip{s} left out by dataset.exclude",
    Code.LINK_OUTSIDE: "symbolic link{s} out of the data set's folder; copy {its target|their targets} into it",
    Code.NOT_A_FILE: "name{s} of {a clip|clips} that {is not a regular file|are not regular files}",
    Code.MISPLACED: "clip{s} whose exercise neither {its folder nor its|their folder nor their} label names; move "
    "{it|each} to <exercise>/<clip>",
    Code.UNUSABLE_NAME: 'name{s} with a brace, one of < > ", a control character or a space at an end; rename the clip',
    Code.WITHOUT_LABEL: "clip{s} without a label",
    Code.UNUSABLE_CLIP: "clip{s} left out because {it|they} cannot be used",
    Code.DOUBTFUL_CLIP: "clip{s} with a warning of the clip check, used as {it is|they are}",
    Code.INCOMPLETE_QUESTION: "question{s} left out because the question or the answer is empty",
    Code.LABEL_WITHOUT_CLIP: "label{s} without a clip in the manifest",
    Code.DUPLICATE_LABEL: "duplicate label{s}",
    Code.MATCHED_BY_NAME: "clip{s} matched to {its|their} label by name, not by path",
    Code.OTHER_SPELLING: "clip{s} whose label writes the name otherwise (case, spaces, folders, encoding)",
    Code.OTHER_SUFFIX: "clip{s} whose label, in parentheses, names a file of another suffix: a guess; correct the "
    "label",
    Code.LABEL_OF_RECORDING: "augmented clip{s} that {uses its|use their} recording's label; a mirrored one may name "
    "the wrong side",
    Code.WITHOUT_ANSWER: "clip{s} left out because {it has|they have} no answer",
    Code.BARE_LABEL: "clip{s} whose answer is the bare label, without a description",
    Code.MISSING_DESCRIPTION: "label{s} without a description beside described ones; "
    "{its answer has|their answers have} the bare label",
    Code.MISSING_LABEL: "description{s} without a label beside labels; {its answer has|their answers have} the "
    "description",
    Code.OTHER_EXERCISE: "clip{s} whose label does not begin with the manifest's exercise",
    Code.LONG_ANSWER: "answer{s} longer than evaluate.max_new_tokens, which the model cannot give in full; raise it",
    Code.EQUAL_FILES: "group{s} of clips with equal files; {it|each group} stays in one split",
    Code.SAME_FRAMES: "pair{s} of clips whose frames are those of one recording; they stay in one split; if they are "
    "two recordings, settle them in splits.csv",
    Code.LEAK: "recording{s} or person{s} in several splits; correct splits.csv or the labels",
}
_FREE_TEXT = "the answers are scored as free text: {named} of {count} begin with the exercise of their clip ({example})"
_NO_CONTROL = "the control that tells whether the model looks at the video is not possible: "
# Of notices: the sentence, which agrees with {count}.
NOTICES = {
    Code.EXERCISE_FROM_LABEL: "the exercise of {count} clip{s} is what {its label names|their labels name} "
    "({exercises}), not {its|their} folder ({folders}): such a folder contains several exercises; correct the manifest "
    "where this is wrong",
    Code.FREE_TEXT: _FREE_TEXT,
    Code.FREE_TEXT_LABELS: _FREE_TEXT + "; for a score of exercise and feedback, write labels as '<exercise> - "
    "<feedback>' with the manifest's exercise",
    Code.SEVERAL_EXERCISES: "{count} recording{s} {contains|contain} clips of several exercises ({example}): "
    "annotations.recording_pattern '{pattern}' finds their names; if these are not names of recordings or persons, "
    "change the pattern",
    Code.TOO_MANY_ALIKE: "{count} of {clips} clips look alike, each like another one ({examples}): too many for copies "
    "of one recording, so they are not kept in one split; if they are copies, settle them in splits.csv",
    Code.LARGE_GROUP: "{count} of {clips} clips are one group, which stays in one split: {why}",
    Code.UNBALANCED: "the exercises are unbalanced: {most} has {largest} training clips, {least} has {smallest}; a "
    "model may prefer the frequent ones; add clips of the rare ones",
    Code.ONE_EXERCISE_IN_TEST: _NO_CONTROL + "the test split contains one exercise ({exercise}); add clips of another "
    "one, or raise annotations.split.test",
    Code.NO_SHARED_QUESTION: _NO_CONTROL + "no question is asked about test clips of two exercises with "
    "different answers",
    Code.OWN_SPLIT_USED: "the label file's own split is used ({counts})",
    Code.OWN_SPLIT_ALL_TRAIN: "the label file's own split ({counts}) is not used: annotations.split.train is 1",
    Code.OWN_SPLIT_NOT_ASKED_FOR: "the label file's own split ({counts}) is not used: annotations.split_source is "
    "fractions",
    Code.OWN_SPLIT_ONLY_TRAIN: "the label file's own split ({counts}) is not used: it has no test clips; "
    "annotations.split divides the clips",
    Code.OWN_SPLIT_INCOMPLETE: "the label file's own split ({counts}) is not used: it lacks train or test; "
    "annotations.split divides the clips",
    Code.WITHOUT_OWN_SPLIT: "{count} clip{s} {has|have} no split in the label file; {it is|they are} used for "
    "training or validation",
    Code.PINNED: "splits.csv settles {count} of {clips} clips",
    Code.PINS_WITHOUT_CLIP: "{count} line{s} of splits.csv {names|name} a clip that is not in the manifest "
    "({examples})",
    Code.EXERCISE_LACKS_SPLIT: "{exercise} has {groups} groups, but no clip in {splits}: its clips are settled, or "
    "show a person who is in several exercises",
}
WARNINGS = {
    Code.UNUSABLE_CLIP,
    Code.DOUBTFUL_CLIP,
    Code.OTHER_SUFFIX,
    Code.LABEL_OF_RECORDING,
    Code.WITHOUT_ANSWER,
    Code.MISSING_DESCRIPTION,
    Code.MISSING_LABEL,
    Code.OTHER_EXERCISE,
    Code.FREE_TEXT_LABELS,
    Code.LONG_ANSWER,
    Code.EQUAL_FILES,
    Code.SAME_FRAMES,
    Code.TOO_MANY_ALIKE,
    Code.LARGE_GROUP,
    Code.UNBALANCED,
    Code.ONE_EXERCISE_IN_TEST,
    Code.NO_SHARED_QUESTION,
    Code.LEAK,
    Code.OWN_SPLIT_INCOMPLETE,
    Code.PINS_WITHOUT_CLIP,
    Code.EXERCISE_LACKS_SPLIT,
}


class Findings:
    """Collects findings and notices, then logs and summarises them.

    Attributes:
        notices: Code and sentence of each notice.
    """

    def __init__(self) -> None:
        self._items: dict[Code, list[str]] = defaultdict(list)
        self.notices: list[tuple[Code, str]] = []

    def add(self, code: Code, *items: str) -> None:
        """Add clips, labels or entries; each item names its place."""
        if items:
            self._items[code] += items

    def notice(self, code: Code, **values: object) -> None:
        """Add a sentence of `NOTICES`, with its placeholders filled."""
        count = values.get("count")
        text = agree(count, NOTICES[code]) if isinstance(count, int) else NOTICES[code]
        self.notices.append((code, text.format(**values)))

    def items(self, code: Code) -> list[str]:
        """Return what was added under a code."""
        return list(self._items.get(code, ()))

    def log(self) -> None:
        """Log every finding and notice: warnings at WARNING, the others at INFO."""
        for code, items in self._items.items():
            log.log(_level(code), "%s: %s", counted(len(items), REASONS[code]), first_of(items, LOGGED))
        for code, sentence in self.notices:
            log.log(_level(code), "%s", sentence)

    def summary(self) -> list[dict]:
        """Return ``code``, ``reason``, ``count`` and ``items`` (the first `LISTED`) of each code that has items."""
        return [
            {
                "code": code.value,
                "reason": agree(len(items), REASONS[code]),
                "count": len(items),
                "items": items[:LISTED],
            }
            for code, items in self._items.items()
        ]


def _level(code: Code) -> int:
    return logging.WARNING if code in WARNINGS else logging.INFO


def first_of(items: list[str], limit: int, separator: str = ", ") -> str:
    """The first items, with an ellipsis where there are more."""
    return separator.join(items[:limit]) + (", ..." if len(items) > limit else "")
