# Needs: the clips.
# Hands on: <results>/verify/report.json, which file is used of each clip, and duplicates.json, which clips are alike.


rule probe_clip:
    """Decode one clip in full and record its length, its frame rate and any damage."""
    input:
        clip=until_now(lambda wildcards: existing([f"{DATA}/{wildcards.clip}"])),
    output:
        record="<results>/verify/clips/{clip}.json",
    log:
        "<results>/logs/probe_clip/{clip}.log",
    priority: 2
    conda:
        "../environment.yml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        clip=lambda wildcards: f"{DATA}/{wildcards.clip}",
        content=lambda wildcards: content_of_clip(f"{DATA}/{wildcards.clip}"),
        segments=lambda wildcards: segments().get(f"{DATA}/{wildcards.clip}", []),
        data_root=DATA,
        timeout_seconds=setting("integrity/timeout_seconds"),
        memory_gb=setting("integrity/memory_gb"),
        code=source_hash("workflow_scripts/probe_clip.py"),
    message:
        "Checking {params.clip}"
    script:
        "../workflow_scripts/probe_clip.py"


rule probe_shard:
    """Decode those clips of a shard that are new or changed: `probe_clip` where there are many clips."""
    input:
        clips=clips_of_shard,
    output:
        records="<results>/verify/shards/{shard}.json",
    log:
        "<results>/logs/probe_shard/{shard}.log",
    benchmark:
        "<results>/benchmarks/probe_shard/{shard}.tsv"
    priority: 2 if FEW_CLIPS else 0
    conda:
        "../environment.yml"
    resources:
        mem_mb=growing(5000),
        runtime=240,  # the next attempt decodes what is left
    params:
        contents=lambda wildcards: contents_of_shard(wildcards.shard),
        # Functions of `output`, so not compared: `contents` stands for them.
        clips=lambda wildcards, output: shards()[wildcards.shard],
        segments=lambda wildcards, output: segments_of_shard(wildcards.shard),
        cache=f"{RESULTS}/verify/cache",
        data_root=DATA,
        timeout_seconds=setting("integrity/timeout_seconds"),
        memory_gb=setting("integrity/memory_gb"),
        code=source_hash("workflow_scripts/probe_shard.py"),
    message:
        "Checking the clips of shard {wildcards.shard}"
    script:
        "../workflow_scripts/probe_shard.py"


rule reencode:
    """Re-encode the clips that the model would see wrongly; the originals stay as they are."""
    input:
        records=clip_checks,
    output:
        index="<results>/reencoded/index.json",
        made_by="<results>/reencoded/made_by.txt",
    log:
        "<results>/logs/reencode.log",
    benchmark:
        "<results>/benchmarks/reencode.tsv"
    conda:
        "../environment.yml"
    threads: threads_of_job
    resources:
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        data_root=DATA,
        folder=lambda wildcards, output: str(Path(output.index).parent),
        # A function, so that the files are read if re-encoded clips are in use, and not by each command.
        made_by=lambda wildcards: made_by(f"{RESULTS}/reencoded/made_by.txt", is_intact(f"{RESULTS}/reencoded")),
        timeout_seconds=setting("integrity/timeout_seconds"),
        memory_gb=setting("integrity/memory_gb"),
        code=source_hash("workflow_scripts/reencode.py"),
    message:
        "Re-encoding clips that the model would see wrongly to {params.folder}"
    script:
        "../workflow_scripts/reencode.py"


rule normalise:
    """Do what `reencode` does; the name of releases before 0.2."""
    input:
        "<results>/reencoded/index.json",


rule check_clips:
    """Gather the checks of all clips in one report."""
    input:
        records=clip_checks,
        reencoded=branch(config["integrity"]["use_normalised"], then="<results>/reencoded/index.json"),
    output:
        report="<results>/verify/report.json",
        hashes="<results>/verify/hashes.json",
    log:
        "<results>/logs/check_clips.log",
    priority: 2
    conda:
        "../environment.yml"
    params:
        segments=lambda wildcards: segments(),
        bounds=lambda wildcards: {name: config["integrity"][name] for name in ("brightness", "sharpness", "motion")},
        on_error=setting("integrity/on_error"),
        code=source_hash("workflow_scripts/check_clips.py"),
    message:
        "Gathering the checks of all clips"
    script:
        "../workflow_scripts/check_clips.py"


rule find_duplicates:
    """Find clips of different names whose frames are alike, by the hashes of the frames."""
    input:
        hashes="<results>/verify/hashes.json",
    output:
        duplicates="<results>/verify/duplicates.json",
    log:
        "<results>/logs/find_duplicates.log",
    priority: 2
    conda:
        "../environment.yml"
    params:
        recording_pattern=setting("annotations/recording_pattern"),
        code=source_hash("workflow_scripts/find_duplicates.py"),
    message:
        "Comparing the frames of all clips"
    script:
        "../workflow_scripts/find_duplicates.py"


rule verify:
    """Print the pre-flight checklist; always runs, and its exit status says whether every check passed."""
    input:
        report="<results>/verify/report.json",
    log:
        "<results>/logs/verify.log",
    conda:
        "../environment.yml"
    params:
        data_root=DATA,
        results=lambda wildcards: RESULTS,
        source=SOURCE,
        exclude=setting("dataset/exclude"),
        model=lambda wildcards: MODEL.local().named,
        on_error=setting("integrity/on_error"),
        label_files=ANSWERS,
        answers=setting("annotations/source"),
        min_free_disk_gb=setting("preflight/min_free_disk_gb"),
        allow_cpu=setting("preflight/allow_cpu"),
        elsewhere=lambda wildcards: runs_elsewhere(),
    message:
        "Verifying data, environment and machine"
    script:
        "../workflow_scripts/verify.py"
