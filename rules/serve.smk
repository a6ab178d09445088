# Needs: a trained run: its train.json, its adapter and the base that it records. Nothing here trains, downloads or
# computes features: a run's files are no inputs, since Snakemake would bring them up to date first.
# Hands on: answers about clips; <run>/export/, or <run>/original-lora/ in the layout of the original's adapters; a
# repository on the hub.
from mobilevideogpt.checksums import SUMS
from mobilevideogpt.files import file_digest
from mobilevideogpt.runs import run_to_use
from mobilevideogpt.serving.questions import clips_to_answer, repository_to_push

LAYOUT = config.get("layout", "official")
EXPORTED = "original-lora" if LAYOUT == "original-adapter" else "export"


rule infer:
    """Answer about a clip, a folder or a list of clips: `snakemake infer --config video=clip.mp4`."""
    input:
        lambda wildcards: exit_on_input_error(clips_to_answer)(config.get("video")),
        lambda wildcards: exit_on_input_error(run_to_use)(RESULTS, config["run"]),
    log:
        f"{RUN}/logs/infer.log",
    conda:
        "../environment.yml"
    threads: threads_of_job
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(240),
    params:
        run=RUN,
        video=lambda wildcards: config.get("video"),
        exercise=lambda wildcards: config.get("exercise"),
        prompt=lambda wildcards: config.get("prompt"),
        precision=lambda wildcards: config.get("precision", "auto"),
        batch_size=setting("evaluate/batch_size"),
        max_new_tokens=setting("evaluate/max_new_tokens"),
        answers=ANSWERED,
    message:
        "Answering {params.video}"
    script:
        "../workflow_scripts/infer.py"


rule export:
    """Merge the adapter into a checkpoint in the official layout, or write the layout of the original's adapters."""
    input:
        lambda wildcards: exit_on_input_error(run_to_use)(RESULTS, config["run"]),
    output:
        config=f"<run>/{EXPORTED}/config.json",
        sums=f"<run>/{EXPORTED}/{SUMS}",
        made_by=f"<run>/{EXPORTED}/made_by.txt",
    log:
        f"<run>/logs/{EXPORTED}.log",
    benchmark:
        f"<run>/benchmarks/{EXPORTED}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=growing(16000),
        runtime=growing(30),
    params:
        run=lambda wildcards: RUN,
        layout=LAYOUT,
        folder=lambda wildcards, output: str(Path(output.config).parent),
        # Functions, so that the files are read if an export is asked for, and not by each command.
        trained=lambda wildcards: file_digest(f"{RUN}/train.json"),
        made_by=lambda wildcards: made_by(f"{RUN}/{EXPORTED}/made_by.txt", is_intact(f"{RUN}/{EXPORTED}")),
        code=source_hash("workflow_scripts/export.py", CARD),
    message:
        "Exporting to {params.folder}"
    script:
        "../workflow_scripts/export.py"


rule push:
    """Upload the adapter, or an export, to the hub: `snakemake push --config repo_id=owner/name`."""
    input:
        lambda wildcards: exit_on_input_error(repository_to_push)(config.get("repo_id")),
        lambda wildcards: exit_on_input_error(run_to_use)(RESULTS, config["run"]),
        f"<run>/{EXPORTED}/{SUMS}" if "layout" in config else [],
    log:
        "<run>/logs/push.log",
    conda:
        "../environment.yml"
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        run=RUN,
        folder=f"{RUN}/{EXPORTED}" if "layout" in config else None,
        repo_id=lambda wildcards: config.get("repo_id"),
        public=config.get("public", False),
        dry_run=config.get("dry_run", False),
    message:
        "Uploading to {params.repo_id}"
    script:
        "../workflow_scripts/push.py"
