"""Configuration, the data that a run uses, and the functions that pick files."""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path

import psutil
import yaml
from snakemake.exceptions import IncompleteCheckpointException
from snakemake.io import checkpoint_target
from snakemake.logging import logger

from mobilevideogpt.annotations.labels import ANSWER_FILES
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.publishing import is_published
from mobilevideogpt.errors import InputError
from mobilevideogpt.paths import VIDEO_SUFFIXES, shard_of
from mobilevideogpt.sample.names import clip_names
from mobilevideogpt.settings import differing, flatten, merge, validated
from mobilevideogpt.source import source_digest
from mobilevideogpt.training.arguments import CONFIGURATION, TrainingSettings

shell.prefix(f"export PATH={Path(sys.executable).parent}:$PATH; ")  # `python` in shell: is this one
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # "Loading weights" of files on the disk

STARTED = time.time()
SCHEMA = yaml.load(Path("config/schema.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # C is fast
MANIFEST = Path("dataset/manifest.json")
# What stands beside the runs below results/.
NOT_A_RUN = {
    "annotations",
    "base.json",
    "benchmarks",
    "features",
    "hub",
    "logs",
    "normalised",
    "preflight.json",
    "preflight.passed",
    "sample",
    "verify",
}


def literal(value):
    """Hand a text on as it is; Snakemake would take braces in it for wildcards."""
    return lambda wildcards: value


def source_hash(*files):
    """Digest the code that a script runs, so that the rule runs again when it changes."""
    return source_digest(*files)


def resolve_source(asked):
    """Return whose clips are used: qved, hub or sample."""
    if asked == "auto":
        answers = (Path("dataset", name) for names in ANSWER_FILES.values() for name in names)
        own = MANIFEST.exists() or any(path.exists() for path in answers) or own_clips()
        return "qved" if own else "sample"
    if asked == "qved" and not MANIFEST.exists() and not own_clips():
        raise InputError(f"dataset.source is qved, but there is no {MANIFEST}; add it, or use dataset.source: sample")
    return asked


def own_clips():
    folders = (path for path in Path("dataset").glob("*/") if path.name not in {"sample", "hub"})
    return any(file.suffix.lower() in VIDEO_SUFFIXES for folder in folders for file in folder.glob("*"))


def layered(config, source):
    """Lay what the sample changes between the defaults and what the user set."""
    if source != "sample":
        return config
    sample = yaml.safe_load(Path("config/sample.yaml").read_text())
    command_line = dict(workflow.config_settings.config)
    own = merge(differing(config, validated({}, SCHEMA)), command_line)
    return validated(merge(merge(config, sample), own), SCHEMA)


def resolved_settings():
    """Return the settings, whose clips are used, and the model that `snakemake fetch` gets, whatever the data."""
    try:
        settings = validated(config, SCHEMA)
        released = settings["model"]
        source = resolve_source(settings["dataset"]["source"])
        settings = layered(settings, source)
        if settings["run"] in NOT_A_RUN:
            raise InputError(f"run: {settings['run']} is a folder of the workflow's own below results/; choose another")
        TrainingSettings.from_dict(settings["finetune"])  # raises if one does not go with another
        total = sum(settings["annotations"]["split"].values())
        if abs(total - 1) > 1e-6:
            raise InputError(f"annotations.split: the fractions add up to {total:g}, not to 1; correct config.yaml")
    except InputError as error:
        raise SystemExit(f"ERROR: {error}") from None  # a WorkflowError would name lines of the rules
    return settings, source, released


config, SOURCE, RELEASED = resolved_settings()
os.environ[CONFIGURATION] = json.dumps(config)
DATA = "dataset" if SOURCE == "qved" else f"dataset/{SOURCE}"
RESULTS = "results" if SOURCE == "qved" else f"results/{SOURCE}"
RUN = f"{RESULTS}/{config['run']}"
# Where all clips are trained on, there is nothing to evaluate on, and a run ends with the adapter.
HOLDS_OUT = config["annotations"]["split"]["train"] < 1 or config["annotations"]["split_source"] == "labels"
ANSWERS = [Path(DATA, name) for name in ANSWER_FILES[config["annotations"]["source"]]]  # the first that is there counts

if SOURCE == "sample":
    changed = (f"{name}={value}" for name, value in flatten(differing(config, validated({}, SCHEMA))))
    logger.info(
        "No dataset/manifest.json: using the built-in sample, 30 rendered clips and a tiny base checkpoint.\n"
        f"Settings that are not the defaults (config/sample.yaml): {', '.join(changed)}"
    )


def ending_all(function):
    """Let an InputError end everything at once; Snakemake would go on with what a former run left, or show a traceback."""

    @wraps(function)
    def checked(*arguments):
        try:
            return function(*arguments)
        except InputError as error:
            raise SystemExit(f"ERROR: {error}") from None

    return checked


@ending_all
def manifest_file(wildcards=None):
    """Return the manifest: the user's, or the one that a rule makes."""
    if SOURCE == "qved" and not MANIFEST.exists():
        raise InputError(f"dataset/ holds clips or labels, but there is no {MANIFEST}; `snakemake manifest` makes one")
    return readable(f"{DATA}/manifest.json")


def readable(path):
    """Return a path. Snakemake itself reads an input, and ends in words of its own on one that it may not read."""
    if os.path.exists(path) and not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read (Permission denied); allow it with `chmod u+r {path}`")
    return str(path)


@ending_all
@cache
def clips():
    """Return the clips of the data set, as paths below its folder, in order."""
    if SOURCE == "sample":
        return clip_names()
    if SOURCE == "hub":
        checkpoints.download_clips.get()
    manifest = read_manifest(manifest_file(), DATA, exclude=config["dataset"]["exclude"])
    return [str(Path(clip.path).relative_to(DATA)) for clip in manifest]


@cache
def clip_sizes():
    """Return the bytes of each clip, by its path below the data set's folder; None if there is nothing to read.

    Passed as a parameter, the size tells a clip that was replaced by one with an older date, too.
    """
    if SOURCE == "sample":
        return dict.fromkeys(clips())
    return {clip: size_of(path) if os.access(path := f"{DATA}/{clip}", os.R_OK) else None for clip in clips()}


def size_of(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def sizes_of(*functions):
    """Return a function for params: the bytes of a user's own files, by the functions that pick them as inputs.

    It does not look at ``input`` itself, as Snakemake compares no parameter that does.
    """

    def sizes(wildcards):
        found = [function(wildcards) for function in functions] if SOURCE == "qved" else []
        files = [file for value in found for file in ([value] if isinstance(value, str) else value)]
        return {file: size_of(file) for file in files if not file.startswith("checkpoints/")}

    return sizes


def there(names):
    """Return the paths of those clips that can be read or that a rule makes; another is no input, but a record."""
    return [f"{DATA}/{clip}" for clip in names if SOURCE == "sample" or clip_sizes()[clip] is not None]


@cache
def shards():
    """Return the clips of each shard. A job takes about a second to start, so that few clips are cut into few shards."""
    found, digits = {}, 1 if len(clips()) <= 4000 else 2
    for clip in clips():
        found.setdefault(shard_of(f"{DATA}/{clip}", digits), []).append(clip)
    return found


def clip_records(wildcards):
    """Return the records of all clips: one a clip while they are few, else one a shard."""
    if len(clips()) <= config["integrity"]["jobs_a_clip_up_to"]:
        return expand("<results>/verify/clips/{clip}.json", clip=clips())
    return expand("<results>/verify/shards/{shard}.json", shard=sorted(shards()))


@ending_all
def labels_file(wildcards):
    """Return the file with the answers: the user's selection if there is one, else the whole one."""
    source = config["annotations"]["source"]
    if SOURCE == "sample" and source == "labels":
        return f"{DATA}/fine_grained_labels.json"  # a rule makes it
    if SOURCE == "hub":
        checkpoints.download_clips.get()  # the labels come along
    found = [path for path in ANSWERS if path.exists()]
    if not found:
        names = " or ".join(map(str, ANSWERS))
        raise InputError(f"no {source}: there is no {names}; add it, or choose another annotations.source")
    return readable(found[0])


def if_there(name):
    """Return a function that picks a file beside the manifest, if the user has it."""
    path = f"{DATA}/{name}"
    return ending_all(lambda wildcards: readable(path) if Path(path).exists() else [])


def annotations_of(split):
    """Return a function that picks a split's annotations, once they are written (an early cut-off for what follows)."""
    return lambda wildcards: done(checkpoints.annotations).output[split]


def features_of(split):
    """Return a function that picks the features of a split's clips, once they are computed (likewise)."""
    return lambda wildcards: after_annotations(checkpoints.features).output[split]


def passed_preflight(wildcards):
    """Return the file that says that the preflight found all well (likewise)."""
    return after_annotations(checkpoints.preflight).output.passed


@ending_all
def clip_to_look_at(wildcards):
    """Return no file, as Snakemake takes braces in a name for wildcards; end, before it trains, if there is none."""
    video = config.get("video")
    if not video:
        raise InputError("no clip to look at; name one: snakemake infer --config video=clip.mp4")
    if not os.path.isfile(video):
        raise InputError(f"{video}: there is no such clip; check the path given with `--config video=...`")
    return []


def after_annotations(checkpoint):
    """Return a checkpoint that stands below the annotations; until these are written, name another of its outputs.

    Snakemake finds that a checkpoint need not run only where a job asks for a file that it has not asked for before.
    Else a job below both would not run for reasons of its own where only the annotations ran.
    """
    try:
        checkpoints.annotations.get()
    except IncompleteCheckpointException:
        raise awaiting(checkpoint, -1) from None
    return done(checkpoint)


def done(checkpoint):
    try:
        return checkpoint.get()
    except IncompleteCheckpointException:
        raise awaiting(checkpoint, 0) from None


def awaiting(checkpoint, place):
    """Return the exception that has a checkpoint run. It names an output that is lost, if there is one.

    Snakemake takes a checkpoint whose named output is there for done, and runs what needs another one without it.
    """
    outputs, _ = checkpoint.rule.expand_output({})
    lost = [output for output in outputs if not Path(output).exists()]
    return IncompleteCheckpointException(checkpoint.rule, checkpoint_target((lost or outputs)[place]))


def say_what_is_lost(checkpoint):
    """Say that outputs of a checkpoint are gone: Snakemake looks for no reason to run what stands below it then."""
    outputs, _ = checkpoint.rule.expand_output({})
    lost = [str(output) for output in outputs if not Path(output).exists()]
    if lost and Path(RUN, "train.json").exists():
        name = checkpoint.rule.name
        logger.warning(
            f"{', '.join(lost)} cannot be found; until `snakemake --forcerun {name}` makes it anew, what was made from "
            "it counts as up to date, whatever else has changed"
        )


def is_local(value):
    return value is None or Path(value).exists()


def repositories(model):
    """Return revision and files to fetch, by repository, of what a model's settings name on the hub."""
    wanted = {
        "base": (None, model["base"]),
        "video_encoder": ([Path(model["video_encoder"] or "").name], model["video_encoder"]),
        "image_encoder": (["config.json", "pytorch_model.bin"], model["image_encoder"]),
    }
    return {
        Path(*Path(value).parts[:2]).as_posix(): {"revision": model[f"{name}_revision"], "patterns": patterns}
        for name, (patterns, value) in wanted.items()
        if not is_local(value)
    }


def repository_wanted(wildcards):
    """Return revision and files of the repository that the wildcards name."""
    known = {**repositories(RELEASED), **repositories(config["model"])}
    return known[f"{wildcards.owner}/{wildcards.repository}"]


def base_files(wildcards):
    """Return the files that say what the base is: its own, or the record of its download."""
    model = config["model"]
    local = [Path(value) for value in (model["base"], model["video_encoder"], model["image_encoder"]) if value]
    files = [f for path in local for f in (sorted(path.glob("*")) if path.is_dir() else [path]) if f.is_file()]
    return [str(f) for f in files] + [f"checkpoints/{name}/fetched.json" for name in repositories(model)]


def model_places():
    """Return where base and encoders lie, or will lie once they are fetched."""
    names = ("base", "video_encoder", "image_encoder")
    places = {name: config["model"][name] for name in names}
    return {name: value if is_local(value) else f"checkpoints/{value}" for name, value in places.items()}


def folder_of(number, name="output"):
    """Return a function for params: the folder that lies ``number`` levels above the first output (or input)."""
    if name == "input":
        return lambda wildcards, input: str(Path(input[0]).parents[number - 1])
    return lambda wildcards, output: str(Path(output[0]).parents[number - 1])


def pass_on_signals():
    """Let a fine-tuning, which saves a checkpoint and stops, have the signals that reach Snakemake alone, too.

    Snakemake itself waits for its jobs, hours perhaps. They may get a signal twice, which is as good as once.
    """

    def passing_on(number, then):
        def handler(*arguments):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if "workflow_scripts/finetune.py" in process.cmdline()[1:2]:
                        process.send_signal(number)
            then(*arguments)

        return handler

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, passing_on(number, signal.getsignal(number)))


def say_what_is_next():
    """Say after a run what it made and what to type next."""
    record, page = Path(RUN, "train.json"), Path(RUN, "report.html")

    def made(path):
        return path.exists() and path.stat().st_mtime > STARTED

    if made(page):
        logger.info(f"\nReport: {page}\nNext: open it in a browser, or try `snakemake infer --config video=clip.mp4`")
    elif made(record):
        trained = json.loads(record.read_text())
        first, kept = trained["losses"]["val_first"], trained["adapters"][trained["kept"]]["val_loss"]
        validation = "no validation clips" if kept is None else f"validation loss {first:.3f} -> {kept:.3f}"
        following = (
            "`snakemake report` evaluates it and shows what it learned"
            if HOLDS_OUT
            else "try `snakemake infer --config video=clip.mp4`; all clips were trained on, so none is left to evaluate on"
        )
        logger.info(f"\nFine-tuned: {RUN}/adapter ({validation})\nNext: {following}")


def say_how_to_go_on():
    """Say after a failure that nothing is lost."""
    logger.info("\nNothing that was finished is lost: correct what is said above and type the same command again.")
