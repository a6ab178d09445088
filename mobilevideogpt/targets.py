"""The targets that people ask for, and what a mistyped one may have meant. Standard library only."""

import difflib
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from mobilevideogpt.errors import InputError

NAMED = {  # in the order of a first use
    "manifest": "list the clips",
    "verify": "check everything",
    "annotations": "labels and splits",
    "fetch": "download the base",
    "features": "the encoders' output",
    "preflight": "does the machine suffice",
    "finetune": "train",
    "evaluate": "score",
    "report": "the page",
    "infer": "ask about a clip",
    "export": "one checkpoint",
    "push": "to the hub",
    "compare": "several runs",
    "reencode": "clips that the model would see wrongly",
    "pin_splits": "keep the splits",
    "clean_features": "free some space",
    "all": "everything",
}


def check_targets(targets: Iterable[str], rules: Collection[str]) -> None:
    """Check that each target that is a plain word is a rule or a file.

    Args:
        targets: Rules and files as they were asked for.
        rules: Names of all rules.

    Raises:
        InputError: If one is neither; the message names the most similar rule and the usual targets.
    """
    for target in targets:
        if not re.fullmatch(r"[\w-]+", target) or target in rules or Path(target).exists():
            continue
        usual = [name for name in NAMED if name in rules]
        near = difflib.get_close_matches(target, usual, n=1) or difflib.get_close_matches(target, rules, n=1)
        meant = f"did you mean `snakemake {near[0]}`? " if near else ""
        listed = ", ".join(f"{name} ({NAMED[name]})" for name in usual)
        raise InputError(f"{target}: there is no such target; {meant}Targets: {listed}")
