"""Fine-tune Mobile-VideoGPT-0.5B on your own clips: `snakemake --cores 1 finetune`, `snakemake verify`, `snakemake`."""

from pathlib import Path

from snakemake.utils import min_version

from mobilevideogpt.command_line import CommandLine
from mobilevideogpt.configuration import check_configuration_file
from mobilevideogpt.errors import exit_on_input_error
from mobilevideogpt.files import check_writable
from mobilevideogpt.machine import device_line
from mobilevideogpt.next_steps import OF_A_RUN, after_failure, header, next_steps, up_to_date
from mobilevideogpt.processes import was_signalled
from mobilevideogpt.targets import check_targets

min_version("9.20")
exit_on_input_error(check_configuration_file)("config.yaml")


# That of the working folder, where Snakemake was called with `-s /elsewhere/Snakefile`.
configfile: "config.yaml" if Path("config.yaml").exists() else Path(str(workflow.current_basedir), "config.yaml")


include: "rules/common.smk"


report: "captions/workflow.rst"


pathvars:
    data=DATA,
    results=RESULTS,
    run=RUN,


# Without a target: everything, to the report, if there are clips to test on.
rule all:
    default_target: True
    input:
        "<run>/report.html" if HOLDS_OUT else "<run>/train.json",


# Seconds each, or a connection that compute nodes lack, or an answer on the terminal: not submitted to a cluster.
localrules:
    annotations,
    build_annotations,
    check_clips,
    check_labels,
    clean_features,
    compare,
    describe_base,
    download_clips,
    fetch_repository,
    find_duplicates,
    manifest,
    pin_splits,
    push,
    render_sample,
    report,
    verify,


# In the order of the data.
include: "rules/sample.smk"
include: "rules/dataset.smk"
include: "rules/base.smk"
include: "rules/annotations.smk"
include: "rules/verify.smk"
include: "rules/features.smk"
include: "rules/preflight.smk"
include: "rules/finetune.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"
include: "rules/serve.smk"
include: "rules/compare.smk"


if workflow.is_main_process:
    exit_on_input_error(check_targets)(TARGETS, [rule.name for rule in workflow.rules])
for notice in notices():
    logger.info(notice)


TYPED = CommandLine.of_this_process()
# For the logger of profiles/default: what to print where nothing is to be done. No hook runs then.
logger.info(
    None,
    extra={"up_to_date": lambda: up_to_date(workflow.dag_settings.targets or {"all"}, RUN, HOLDS_OUT, TYPED)},
)


onstart:
    exit_on_input_error(check_writable)((RESULTS, RUN))
    record_lock_owner(getattr(workflow.persistence, "_lockfile", {}).values())
    Path(ANSWERED).unlink(missing_ok=True)
    device = "that of each job's machine" if workflow.non_local_exec else device_line()
    forward_signals(in_project("workflow_scripts/finetune.py"))  # Snakemake alone would wait for it, hours perhaps
    if OF_A_RUN & set(workflow.dag_settings.targets or {"all"}):
        logger.info(header(data=DATA, run_folder=RUN, device=device))


onsuccess:
    print_answers()
    logger.info(next_steps(RUN, STARTED, HOLDS_OUT, TYPED))


onerror:
    print_answers()
    logger.info(f"\n{after_failure(was_signalled())}")
