rule probe_clip:
    """Decode one clip in full and record its length, its frame rate and any damage."""
    input:
        clip=lambda wildcards: there([wildcards.clip]),
    output:
        record="<results>/verify/clips/{clip}.json",
    log:
        "<results>/logs/probe_clip/{clip}.log",
    conda:
        "../environment.yml"
    params:
        clip=lambda wildcards: f"{DATA}/{wildcards.clip}",
        bytes=lambda wildcards: clip_sizes()[wildcards.clip],
        data_root=DATA,
        timeout_seconds=lookup(within=config, dpath="integrity/timeout_seconds"),
        memory_gb=lookup(within=config, dpath="integrity/memory_gb"),
        code=source_hash("workflow_scripts/probe_clip.py"),
    message:
        "Checking {params.clip}"
    script:
        "../workflow_scripts/probe_clip.py"


rule probe_shard:
    """Decode those clips of a shard that are new or changed: the work of `probe_clip` where clips are many."""
    input:
        clips=lambda wildcards: there(shards()[wildcards.shard]),
    output:
        records="<results>/verify/shards/{shard}.json",
    log:
        "<results>/logs/probe_shard/{shard}.log",
    conda:
        "../environment.yml"
    params:
        clips=lambda wildcards: {f"{DATA}/{clip}": clip_sizes()[clip] for clip in shards()[wildcards.shard]},
        remembered=f"{RESULTS}/verify/remembered",
        data_root=DATA,
        timeout_seconds=lookup(within=config, dpath="integrity/timeout_seconds"),
        memory_gb=lookup(within=config, dpath="integrity/memory_gb"),
        code=source_hash("workflow_scripts/probe_shard.py"),
    message:
        "Checking the clips of shard {wildcards.shard}"
    script:
        "../workflow_scripts/probe_shard.py"


rule normalise:
    """Re-encode the clips that would be shown wrongly; the originals stay as they are."""
    input:
        records=clip_records,
    output:
        index="<results>/normalised/index.json",
    log:
        "<results>/logs/normalise.log",
    conda:
        "../environment.yml"
    threads: workflow.cores
    params:
        data_root=DATA,
        folder=folder_of(1),
        timeout_seconds=lookup(within=config, dpath="integrity/timeout_seconds"),
        memory_gb=lookup(within=config, dpath="integrity/memory_gb"),
        code=source_hash("workflow_scripts/normalise.py"),
    message:
        "Re-encoding clips that would be shown wrongly to {params.folder}"
    script:
        "../workflow_scripts/normalise.py"


rule check_clips:
    """Gather the records of all clips in one report."""
    input:
        records=clip_records,
        normalised=branch(
            lookup(within=config, dpath="integrity/use_normalised"), then="<results>/normalised/index.json"
        ),
    output:
        report="<results>/verify/report.json",
        hashes="<results>/verify/hashes.json",
    log:
        "<results>/logs/check_clips.log",
    conda:
        "../environment.yml"
    params:
        bounds=lambda wildcards: {name: config["integrity"][name] for name in ("brightness", "sharpness", "motion")},
        on_error=lookup(within=config, dpath="integrity/on_error"),
        code=source_hash("workflow_scripts/check_clips.py"),
    message:
        "Gathering the records of all clips"
    script:
        "../workflow_scripts/check_clips.py"


rule verify:
    """Print the pre-flight checklist; always runs, and its exit status tells whether all is well."""
    input:
        report="<results>/verify/report.json",
    log:
        "<results>/logs/verify.log",
    conda:
        "../environment.yml"
    params:
        data_root=DATA,
        results=folder_of(2, "input"),
        source=SOURCE,
        exclude=lookup(within=config, dpath="dataset/exclude"),
        model=lambda wildcards: model_places(),
        on_error=lookup(within=config, dpath="integrity/on_error"),
        label_files=[str(path) for path in ANSWERS],
        answers=lookup(within=config, dpath="annotations/source"),
        min_free_disk_gb=lookup(within=config, dpath="preflight/min_free_disk_gb"),
        allow_cpu=lookup(within=config, dpath="preflight/allow_cpu"),
    message:
        "Verifying data, environment and machine"
    script:
        "../workflow_scripts/verify.py"
