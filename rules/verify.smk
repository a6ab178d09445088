rule probe_clip:
    """Decode one clip in full and record its length, its frame rate and any damage."""
    input:
        clip=clip_file,
    output:
        record="<results>/verify/clips/{clip}.json",
    log:
        "<results>/logs/probe_clip/{clip}.log",
    conda:
        "../environment.yml"
    params:
        clip=lambda wildcards: f"{DATA}/{wildcards.clip}",
        data_root=DATA,
        timeout_seconds=lookup(within=config, dpath="integrity/timeout_seconds"),
        code=source_hash("workflow_scripts/probe_clip.py"),
    message:
        "Checking {params.clip}"
    script:
        "../workflow_scripts/probe_clip.py"


rule check_clips:
    """Gather the records of all clips in one report."""
    input:
        records=lambda wildcards: expand("<results>/verify/clips/{clip}.json", clip=clips()),
    output:
        report="<results>/verify/report.json",
        page="<results>/verify/report.md",
    log:
        "<results>/logs/check_clips.log",
    conda:
        "../environment.yml"
    params:
        code=source_hash("workflow_scripts/check_clips.py"),
    message:
        "Gathering the records of all clips"
    script:
        "../workflow_scripts/check_clips.py"


rule verify:
    """Print the pre-flight checklist; always runs, and its exit status tells whether all is well."""
    input:
        report="<results>/verify/report.json",
        page="<results>/verify/report.md",
    log:
        "<results>/logs/verify.log",
    conda:
        "../environment.yml"
    params:
        data_root=DATA,
        results=folder_of(2, "input"),
        source=SOURCE,
        exclude=lookup(within=config, dpath="dataset/exclude"),
        label_files=[str(path) for path in ANSWERS] if SOURCE == "qved" else [],
        min_free_disk_gb=lookup(within=config, dpath="preflight/min_free_disk_gb"),
    message:
        "Verifying data, environment and machine"
    script:
        "../workflow_scripts/verify.py"
