"""What the data, the training and the answers warn of, as sentences of the page."""

from collections.abc import Mapping, Sequence

from mobilevideogpt.evaluation.formatting import plural

NAMES = {"base": "the base", "finetuned": "the fine-tuned model", "mismatched_video": "the control"}


def dependence(summary: Mapping) -> str | None:
    """Say that clips of different splits depend on each other; None if nothing shows that they do.

    Args:
        summary: Summary of the annotations, with ``near_duplicates`` if the clips were compared.
    """
    leaks, pairs = summary["split"]["leaks"], summary.get("near_duplicates") or []
    found = []
    if leaks:
        found.append(plural(len(leaks), "recording or person", "recordings or persons") + " in several splits")
    if pairs:
        found.append(plural(len(pairs), "pair") + " of near-duplicates across splits")
    if not found:
        return None
    return f"Found: {' and '.join(found)}, see Data. The scores may be too high, and all intervals too narrow."


def dependent_clips(summary: Mapping, limit: int = 3) -> list[str]:
    """Name what `dependence` counts: the first leaks and pairs, and how many more there are."""
    pairs = [
        f"{a} ({x}) and {b} ({y}) look alike"
        for pair in summary.get("near_duplicates") or []
        for (a, b), (x, y) in [(pair["clips"], pair["splits"])]
    ]
    found = [*summary["split"]["leaks"], *pairs]
    return found[:limit] + ([f"and {len(found) - limit} more"] if len(found) > limit else [])


def independence(summary: Mapping, n_test: int) -> str:
    """Say what is known of the independence of the test clips."""
    if dependence(summary):
        return ""
    tested = plural(n_test, "test clip")
    if "near_duplicates" not in summary:
        return f"No recording or person of the {tested} is in another split. Near-duplicates were not looked for."
    return (
        f"The {tested} took no part in the training or in the choice of the adapter: no recording or person is in two "
        "splits, and no near-duplicates were found across splits."
    )


def cautions(
    *, train: Mapping, log: Sequence[Mapping], metrics: Mapping, preflight: Mapping, summary: Mapping
) -> list[str]:
    """Return a sentence for each warning of the data, of the training, of the answers and of the preflight.

    Args:
        train: The run record.
        log: The Trainer's log entries in order.
        metrics: As `mobilevideogpt.evaluation.evaluate.evaluate` returns them.
        preflight: As `mobilevideogpt.training.preflight.preflight` returns it.
        summary: Summary of the annotations.
    """
    unbalanced = summary["split"].get("unbalanced")
    found = [f"{unbalanced[0].upper()}{unbalanced[1:]}."] if unbalanced else []
    for split, n in train.get("truncated_texts", {}).items():
        if n:
            found.append(
                f"{plural(n, 'text')} of the {split} split {'was' if n == 1 else 'were'} longer than "
                "finetune.max_text_tokens and lost the end of the answer. Raise the setting."
            )
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    if len(losses) > 1 and min(losses[1:]) >= losses[0]:
        found.append(
            f"The validation loss never fell below its first value ({losses[0]:.3f}). Lower the learning rate, or "
            "check the labels."
        )
    for source, name in NAMES.items():
        scores = metrics[source]
        if scores and scores.get("cut"):
            found.append(
                f"{round(scores['cut'] * scores['n'])} of {plural(scores['n'], 'answer')} of {name} had no end after "
                f"{metrics['settings']['max_new_tokens']} tokens and were cut. Raise evaluate.max_new_tokens."
            )
    failed = [check for check in preflight["checks"] if not check["ok"]]
    found += [f"Preflight, {check['name']}: {check['detail']}; {check['remedy']}" for check in failed]
    return found + [f"Preflight: {text}" for text in preflight.get("warnings", ())]
