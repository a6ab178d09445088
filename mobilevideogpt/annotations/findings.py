"""What reading, matching and splitting found: codes, their messages, and one collector. Standard library only.

A finding is a clip, a label or an entry that was left out or guessed; many of one code make one line of the log and one
entry of the summary. A notice is a sentence about the data set as a whole.
"""

import logging
from collections import defaultdict
from enum import StrEnum

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
    OWN_SPLIT_INCOMPLETE = "own_split_incomplete"
    WITHOUT_OWN_SPLIT = "without_own_split"
    PINNED = "pinned"
    PINS_WITHOUT_CLIP = "pins_without_clip"
    EXERCISE_LACKS_SPLIT = "exercise_lacks_split"


# Of findings: the reason, which follows the number of items.
REASONS = {
    Code.EXERCISE_FROM_FOLDER: "clips whose exercise is the name of their folder",
    Code.DUPLICATE_ENTRY: "duplicate entries of the manifest",
    Code.EXCLUDED: "clips left out by dataset.exclude",
    Code.LINK_OUTSIDE: "symbolic links out of the data set's folder; copy their targets into it",
    Code.NOT_A_FILE: "names of clips that are not regular files",
    Code.MISPLACED: "clips whose exercise neither their folder nor their label names; move each to <exercise>/<clip>",
    Code.UNUSABLE_NAME: 'names with one of { } < > ", a control character or a space at an end; rename the clip',
    Code.WITHOUT_LABEL: "clips without a label",
    Code.UNUSABLE_CLIP: "clips left out because they cannot be used",
    Code.DOUBTFUL_CLIP: "clips with a warning of the clip check; follow the remedies in verify/report.md",
    Code.INCOMPLETE_QUESTION: "questions left out because the question or the answer is empty",
    Code.LABEL_WITHOUT_CLIP: "labels without a clip in the manifest",
    Code.DUPLICATE_LABEL: "duplicate labels",
    Code.MATCHED_BY_NAME: "clips matched to their label by name, not by path",
    Code.OTHER_SPELLING: "clips whose label writes the name otherwise (case, spaces, folders, encoding)",
    Code.OTHER_SUFFIX: "clips whose label, in parentheses, names a file of another suffix: a guess; correct the label",
    Code.LABEL_OF_RECORDING: "augmented clips that use their recording's label; a mirrored one may name the wrong side",
    Code.WITHOUT_ANSWER: "clips left out because they have no answer",
    Code.BARE_LABEL: "clips whose answer is the bare label, without a description",
    Code.MISSING_DESCRIPTION: "labels without a description beside described ones; their answers have the bare label",
    Code.MISSING_LABEL: "descriptions without a label beside labels; their answers have the description",
    Code.OTHER_EXERCISE: "clips whose label does not begin with the manifest's exercise",
    Code.LONG_ANSWER: "answers longer than evaluate.max_new_tokens, which the model cannot give in full; raise it",
    Code.EQUAL_FILES: "groups of clips with equal files; each group stays in one split",
    Code.SAME_FRAMES: "pairs of clips whose frames are those of one recording; they stay in one split; if they are two "
    "recordings, settle them in splits.csv",
    Code.LEAK: "recordings or persons in several splits; correct splits.csv or the labels",
}
_FREE_TEXT = "the answers are scored as free text: {named} of {count} begin with the exercise of their clip ({example})"
_NO_CONTROL = "the control that tells whether the model looks at the video is not possible: "
# Of notices: the sentence.
NOTICES = {
    Code.EXERCISE_FROM_LABEL: "the exercise of {count} clips is what their labels name ({exercises}), not their folder "
    "({folders}): such a folder contains several exercises; correct the manifest where this is wrong",
    Code.FREE_TEXT: _FREE_TEXT,
    Code.FREE_TEXT_LABELS: _FREE_TEXT + "; for a score of exercise and feedback, write labels as '<exercise> - "
    "<feedback>' with the manifest's exercise",
    Code.SEVERAL_EXERCISES: "{count} recordings contain clips of several exercises ({example}): "
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
    Code.OWN_SPLIT_INCOMPLETE: "the label file's own split ({counts}) is not used: it lacks train or test; "
    "annotations.split divides the clips",
    Code.WITHOUT_OWN_SPLIT: "{count} clips have no split in the label file; they are used for training or validation",
    Code.PINNED: "splits.csv settles {count} of {clips} clips",
    Code.PINS_WITHOUT_CLIP: "{count} lines of splits.csv name a clip that is not in the manifest ({examples})",
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
        self.notices.append((code, NOTICES[code].format(**values)))

    def items(self, code: Code) -> list[str]:
        """Return what was added under a code."""
        return list(self._items.get(code, ()))

    def log(self) -> None:
        """Log every finding and notice: warnings at WARNING, the others at INFO."""
        for code, items in self._items.items():
            log.log(_level(code), "%d %s: %s", len(items), REASONS[code], first_of(items, LOGGED))
        for code, sentence in self.notices:
            log.log(_level(code), "%s", sentence)

    def summary(self) -> list[dict]:
        """Return ``code``, ``reason``, ``count`` and ``items`` (the first `LISTED`) of each code that has items."""
        return [
            {"code": code.value, "reason": REASONS[code], "count": len(items), "items": items[:LISTED]}
            for code, items in self._items.items()
        ]


def _level(code: Code) -> int:
    return logging.WARNING if code in WARNINGS else logging.INFO


def first_of(items: list[str], limit: int, separator: str = ", ") -> str:
    """The first items, with an ellipsis where there are more."""
    return separator.join(items[:limit]) + (", ..." if len(items) > limit else "")
