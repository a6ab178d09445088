"""Configuration, where the data of a run is, and the functions that several rule files share."""

import json
import os
import sys
import time
import uuid
from functools import cache, reduce
from pathlib import Path

from snakemake.api import DAGApi
from snakemake.logging import logger

from mobilevideogpt.annotations.clips import SPLITS, digest_of_clips
from mobilevideogpt.annotations.copies import clips_of_equal_size
from mobilevideogpt.annotations.labels import ANSWER_FILES, find_label_file
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.publishing import is_published
from mobilevideogpt.annotations.unlisted import unlisted_clips, unlisted_sentence
from mobilevideogpt.checksums import sums_are_right
from mobilevideogpt.configuration import resolve
from mobilevideogpt.digest_cache import cached_digests
from mobilevideogpt.errors import InputError, exit_on_input_error
from mobilevideogpt.files import json_digest
from mobilevideogpt.model.model_paths import ModelPaths, repositories
from mobilevideogpt.next_steps import next_steps
from mobilevideogpt.paths import feature_shards_of, shards_of
from mobilevideogpt.processes import LAUNCHED_BY, forward_signals
from mobilevideogpt.recorded_settings import settings_of_run
from mobilevideogpt.result_dates import bring_to_now
from mobilevideogpt.runs import comparison_name, files_to_compare
from mobilevideogpt.sample.names import clip_names
from mobilevideogpt.segments import file_of
from mobilevideogpt.source import source_digest
from mobilevideogpt.stale_locks import CALL_VARIABLE, record_lock_owner, remove_stale_locks
from mobilevideogpt.training.checkpoints import adapter_is_intact
from mobilevideogpt.training.digests import deepspeed_digest

# The project's folder, seen from the working folder: "." unless Snakemake was called with `-s /elsewhere/Snakefile`.
PROJECT = os.path.relpath(Path(str(workflow.current_basedir)).parent)
# `python` in shell: is this one, but under `--sdm conda`.
shell.prefix(
    f'case "$(printenv CONDA_PREFIX)" in */.snakemake/conda/*) ;; *) export PATH={Path(sys.executable).parent}:$PATH;; esac; '
)
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # "Loading weights" of files on the disk

STARTED = time.time()
# This call of Snakemake; its jobs read the workflow again, on other machines perhaps, and inherit the name.
CALL = os.environ.setdefault(CALL_VARIABLE, uuid.uuid4().hex)
TARGETS_VARIABLE = "MOBILEVIDEOGPT_TARGETS"
MOST_THREADS = 16  # of a job on another machine
os.environ[LAUNCHED_BY] = str(os.getpid())  # a job ends with the Snakemake that started it
for notice in remove_stale_locks():
    logger.info(notice)


def in_project(path):
    """Return the path of a file of the project, seen from the working folder."""
    return os.path.normpath(f"{PROJECT}/{path}")


def source_hash(*files):
    """Return the digest of files of the project and of what they import, see `source.source_digest`."""
    return source_digest(*files, root=PROJECT)


def targets_of_call():
    """Return the rules and files that this call asks for, those to be forced among them.

    Snakemake attaches them to the workflow only once it has read it. A job on another machine inherits them.
    """
    frame = sys._getframe()
    while frame and not isinstance(frame.f_locals.get("self"), DAGApi):
        frame = frame.f_back
    if frame and workflow.is_main_process:
        asked = frame.f_locals["self"].dag_settings
        forced = {"all"} if asked.forceall else asked.forcerun
        os.environ[TARGETS_VARIABLE] = json.dumps(sorted({*map(str, asked.targets), *map(str, forced)}))
    return json.loads(os.environ.get(TARGETS_VARIABLE, "[]"))


CONFIGURATION = exit_on_input_error(resolve)(
    config,
    command_line=dict(workflow.config_settings.config),
    files=workflow.config_settings.configfiles,
    config_folder=in_project("config"),
)
SOURCE = CONFIGURATION.source
DATA = "dataset" if SOURCE == "qved" else f"dataset/{SOURCE}"
RESULTS = "results" if SOURCE == "qved" else f"results/{SOURCE}"
RUN = f"{RESULTS}/{CONFIGURATION.settings['run']}"
FEATURES = f"{RESULTS}/features"
MADE = [RESULTS, "checkpoints", *([] if SOURCE == "qved" else [DATA])]  # what rules make
if workflow.is_main_process and (found := bring_to_now(MADE)):
    logger.info(f"{len(found)} results were of a date to come, such as {found[0]}; they are dated now.")
TARGETS = targets_of_call()
# `snakemake report` of a trained run uses the settings that trained it.
OF_RUN = exit_on_input_error(settings_of_run)(CONFIGURATION.settings, RUN, TARGETS)
config = OF_RUN.settings
# A run that trains on all clips has nothing to evaluate on, and ends with the adapter.
HOLDS_OUT = config["annotations"]["split"]["train"] < 1 or config["annotations"]["split_source"] == "labels"
ANSWERS = [f"{DATA}/{name}" for name in ANSWER_FILES[config["annotations"]["source"]]]  # the first that exists is used
# Few clips are decoded in minutes, before any download; of many, in hours, the preflight comes first. The size of the
# manifest tells: it is read only where clips are needed.
FEW_CLIPS = not os.path.exists(f"{DATA}/manifest.json") or os.path.getsize(f"{DATA}/manifest.json") < 50_000
NODES = config["finetune"]["nodes"]  # that train together
ON_EACH_NODE = max(1, (config["finetune"]["processes"] or NODES) // NODES)  # processes of the training, of a job's GPUs
ANSWERED = f"{RUN}/logs/infer.txt"  # the answers of rule infer, which a job on another machine cannot print
COMPARISON = comparison_name(config.get("runs", []))
# The code that shapes features.
EXTRACTOR = source_hash(
    "mobilevideogpt/model/modeling.py", "mobilevideogpt/video/pixels.py", "mobilevideogpt/data/encoding.py"
)
# The templates that all pages share.
PAGE = [f"mobilevideogpt/evaluation/{name}.html.j2" for name in ("page", "macros")]


def setting(path):
    """Return a function for params: the setting ``group/name``. Snakemake looks for wildcards in plain texts alone."""
    value = reduce(lambda group, name: group[name], path.split("/"), config)
    return lambda wildcards: value


def runs_elsewhere():
    """Return whether jobs run on other machines, as under `--executor slurm`, or this is such a job."""
    return workflow.non_local_exec or workflow.remote_exec


def threads_of_job(wildcards):
    """Return the threads of a job that computes: all cores here, and elsewhere, where there are other cores, a few."""
    return min(workflow.cores, MOST_THREADS) if runs_elsewhere() else workflow.cores


def print_answers():
    """Print what rule infer answered on another machine."""
    if workflow.non_local_exec and "infer" in workflow.dag_settings.targets and os.path.exists(ANSWERED):
        print(Path(ANSWERED).read_text(encoding="utf-8"), end="", flush=True)


def gpus_of_a_node(wildcards):
    """Return the GPUs of the training on a node. Here Snakemake counts the jobs on the GPUs, and each is one."""
    return ON_EACH_NODE if runs_elsewhere() else 1


def growing(amount):
    """Return a function for resources: megabytes or minutes, twice as many at the second attempt, and so on."""
    return lambda wildcards, attempt: attempt * amount


def readable(path):
    """Return a path, once it is known that Snakemake can read the file."""
    if os.path.exists(path) and not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read (Permission denied); allow it with `chmod u+r {path}`")
    return path


@exit_on_input_error
def manifest_file(wildcards=None):
    """Return the manifest: the user's, or the one that a rule makes."""
    if SOURCE == "qved" and not Path(f"{DATA}/manifest.json").exists():
        raise InputError(f"{DATA}/manifest.json is missing beside your clips or labels; `snakemake manifest` writes it")
    return readable(f"{DATA}/manifest.json")


@cache
def manifest():
    """Return the clips of the manifest; not for the sample, whose manifest may not be there yet."""
    if SOURCE == "hub":
        checkpoints.download_clips.get()
    return read_manifest(manifest_file(), DATA, exclude=config["dataset"]["exclude"])


@exit_on_input_error
def notices():
    """Return what a call that trains or evaluates says first: whose data, which settings differ, which clips are unused.

    A job on another machine reads the workflow again and says nothing.
    """
    if not workflow.is_main_process:
        return []
    if not {"all", "finetune", "evaluate", "report"} & set(TARGETS or ["all"]):
        return list(filter(None, [OF_RUN.notice]))  # of infer, say: which settings differ
    found = [CONFIGURATION.notice, OF_RUN.notice]
    if SOURCE == "qved":
        named = read_manifest(manifest_file(), DATA) if config["dataset"]["exclude"] else manifest()
        found.append(unlisted_sentence(unlisted_clips(named, DATA), DATA))
    return list(filter(None, found))


@exit_on_input_error
@cache
def clips():
    """Return the path of each clip, in order."""
    return [f"{DATA}/{name}" for name in clip_names()] if SOURCE == "sample" else [clip.path for clip in manifest()]


@cache
def clip_files():
    """Return the files of the clips, each once: a file may contain several clips, its segments."""
    return list(dict.fromkeys(map(file_of, clips())))


@cache
def segments():
    """Return the clips that are segments, by their file."""
    found = {}
    for clip in clips():
        if (file := file_of(clip)) != clip:
            found.setdefault(file, []).append(clip)
    return found


@exit_on_input_error
def clips_digest(wildcards):
    """Return a digest of the clips that the user's manifest names, whatever its layout; None where a rule makes it."""
    return digest_of_clips(manifest()) if SOURCE == "qved" else None


@exit_on_input_error
def labels_file(wildcards):
    """Return the file with the answers: the user's selection if there is one, else the whole one."""
    source = config["annotations"]["source"]
    if source == "folders":  # the answers are the exercises, which the manifest has
        return []
    if SOURCE == "sample" and source == "labels":
        return f"{DATA}/fine_grained_labels.json"  # a rule makes it
    if SOURCE == "hub":
        checkpoints.download_clips.get()  # downloads the labels, too
    return readable(find_label_file(DATA, source))


def if_there(name):
    """Return a function that picks a file beside the manifest, if the user has it."""
    path = f"{DATA}/{name}"
    return exit_on_input_error(lambda wildcards: readable(path) if Path(path).exists() else [])


def until_now(function):
    """Return an input function without the user's files of a date to come: Snakemake would refuse to go on after a job.

    Parameters name these files, too, see `users`. They tell whether a file changed whatever its date, see `contents_of`
    and `content_of_clip`; dates count where Snakemake's memory is lost.
    """

    def files(wildcards):
        found = function(wildcards)
        kept = [path for path in listed(found) if not is_to_come(path)]
        return found if len(kept) == len(listed(found)) else kept

    return files


def listed(found):
    """Return what an input function found as a list."""
    return [found] if isinstance(found, str) else found


def is_to_come(path):
    """Return whether the date of a user's file lies in the future."""
    return SOURCE == "qved" and os.path.exists(path) and os.path.getmtime(path) > STARTED


def users(function):
    """Return a function for params: the user's files, None where rules make them; see `until_now`."""
    return function if SOURCE == "qved" else lambda wildcards: None


@cache
def clip_contents():
    """Return what tells whether a clip is another, by its path: its SHA-256; of many clips, size and date."""
    if SOURCE == "sample":  # a rule makes them
        return {}
    files = [file for file in clip_files() if os.access(file, os.R_OK)]
    if checks_each_clip():
        with cached_digests() as digest:
            return {file: digest(file) for file in files}
    return {file: [(status := os.stat(file)).st_size, status.st_mtime_ns] for file in files}


def content_of_clip(path):
    """Return what tells whether a clip is another; None if it cannot be read, or a rule makes it."""
    return clip_contents().get(path)


def existing(paths):
    """Return those clips that can be read or that a rule makes; a missing clip is a fault that its check reports."""
    return [path for path in paths if SOURCE == "sample" or os.access(path, os.R_OK)]


def checks_each_clip():
    """Return whether each clip is checked by a job of its own."""
    return len(clip_files()) <= config["integrity"]["jobs_a_clip_up_to"]


@cache
def shards():
    """Return the files of the clips in each shard."""
    return shards_of(clip_files())


def clips_of_shard(wildcards):
    """Return the clips of a shard as inputs; of the user's only the one that changed last.

    `contents_of_shard` tells which of them changed, and 300,000 inputs would take Snakemake a minute to plan. The date of
    the last counts where Snakemake's memory is lost.
    """
    clips = existing(shards()[wildcards.shard])
    if SOURCE != "qved":
        return clips
    dates = {clip: clip_contents()[clip][1] for clip in clips}
    past = [clip for clip in clips if dates[clip] <= STARTED * 1e9]
    return [max(past, key=lambda clip: (dates[clip], clip))] if past else []


def segments_of_shard(shard):
    """Return the clips of a shard that are segments, by their file."""
    return {file: segments()[file] for file in shards()[shard] if file in segments()}


def contents_of_shard(shard):
    """Return a digest of the clips of a shard, of their segments, and of what tells whether a clip is another."""
    return json_digest([{clip: content_of_clip(clip) for clip in shards()[shard]}, segments_of_shard(shard)])


@cache
def feature_shards():
    """Return the files of the clips in each shard of the features; empty if one job computes all features."""
    return feature_shards_of(clip_files(), config["features"]["shards"]) if config["features"]["cache"] else {}


@exit_on_input_error
def checks_of_feature_shard(wildcards):
    """Return the files with the checks of the clips in a shard of the features."""
    files = feature_shards()[wildcards.shard]
    if checks_each_clip():
        return [check_of(file) for file in files]
    names = {file: shard for shard, those in shards().items() for file in those}
    return sorted({f"{RESULTS}/verify/shards/{names[file]}.json" for file in files})


def check_of(file):
    """Return the file with the check of a clip that has a job of its own."""
    return f"{RESULTS}/verify/clips/{file.removeprefix(f'{DATA}/')}.json"


def clip_checks(wildcards):
    """Return the files with the checks of all clips: one for each file where there are few, else one a shard."""
    if checks_each_clip():
        return [check_of(file) for file in clip_files()]
    return [f"{RESULTS}/verify/shards/{shard}.json" for shard in sorted(shards())]


def _picked(functions, wildcards):
    return [file for function in functions for file in listed(function(wildcards))]


def sizes_of(*functions):
    """Return a function for params: the size of each user's file that these functions pick as an input.

    As a parameter, the size reveals another file of an older date, too.
    """

    def sizes(wildcards):
        files = _picked(functions, wildcards) if SOURCE == "qved" else []
        return {file: os.path.getsize(file) for file in files if not file.startswith("checkpoints/")}

    return sizes


def contents_of(*functions):
    """Return a function for params: the SHA-256 of each user's file that these functions pick as an input."""

    def contents(wildcards):
        files = _picked(functions, wildcards) if SOURCE == "qved" else []
        with cached_digests() as digest:
            return {file: digest(file) for file in files}

    return contents


def made_by(output, is_intact):
    """Return the call of Snakemake that ran a rule last, as its output says; this call if the rule has to run again.

    Snakemake misses what a rule writes beside its outputs, and a lost output of a checkpoint. As a parameter, the call
    changes where such a file is gone or is not what was written, and the rule runs again.
    """
    return Path(output).read_text().strip() if is_intact and Path(output).exists() else CALL


def is_intact(folder):
    """Return whether the files of a folder are those that its SHA256SUMS lists."""
    with cached_digests() as digest:
        return sums_are_right(Path(folder), digest)


def run_is_intact():
    """Return whether adapter, log, plots and samples of the run are those that its training wrote."""
    with cached_digests() as digest:
        folders_are_intact = all(sums_are_right(Path(RUN, name), digest) for name in ("plots", "samples"))
        return folders_are_intact and adapter_is_intact(RUN, digest)


def dataset_of(name):
    """Return a function that picks a list which rule features writes, a split's samples or the summary.

    The checkpoint cuts off early: where it writes the same list again, the rules that read the list do not run.
    """
    return lambda wildcards: checkpoints.features.get().output[name]


@exit_on_input_error
def files_of_runs(wildcards):
    """Return the files that a comparison reads, with their digests."""
    return files_to_compare(RESULTS, config.get("runs", []))
