rule evaluate:
    """Answer the test clips with the base, with the fine-tuned model, and with another exercise's clip shown."""
    input:
        train="<run>/train.json",
        test=annotations_of("test"),
        features=features_of("test"),
        base="<results>/base.json",
        preflight=passed_preflight,  # else Snakemake keeps an early reason to run after a checkpoint not right above
    output:
        metrics="<run>/metrics.json",
        predictions="<run>/predictions.jsonl",
    log:
        "<run>/logs/evaluate.log",
    conda:
        "../environment.yml"
    threads: workflow.cores
    resources:
        gpu=1,
    params:
        store=f"{RESULTS}/features",
        uncached=None if config["features"]["cache"] else config["features"]["dtype"],
        batch_size=lookup(within=config, dpath="evaluate/batch_size"),
        max_new_tokens=lookup(within=config, dpath="evaluate/max_new_tokens"),
        seed=lookup(within=config, dpath="evaluate/seed"),
        prompt=literal(config["annotations"]["prompt"]),
        answers=lookup(within=config, dpath="annotations/source"),
        code=source_hash("workflow_scripts/evaluate.py"),
    message:
        "Evaluating base, fine-tuned model and grounding control on the test clips"
    script:
        "../workflow_scripts/evaluate.py"


rule infer:
    """Print what the fine-tuned model says of one clip: `snakemake infer --config video=clip.mp4`."""
    input:
        clip_to_look_at,
        train="<run>/train.json",
        base="<results>/base.json",
    log:
        "<run>/logs/infer.log",
    conda:
        "../environment.yml"
    threads: workflow.cores
    resources:
        gpu=1,
    params:
        data_root=DATA,
        video=literal(config.get("video")),
        exercise=literal(config.get("exercise")),
        prompt=literal(config.get("prompt", config["annotations"]["prompt"])),
        max_new_tokens=lookup(within=config, dpath="evaluate/max_new_tokens"),
    message:
        "Looking at {params.video}"
    script:
        "../workflow_scripts/infer.py"


rule export:
    """Merge the adapter into a checkpoint in the official layout."""
    input:
        train="<run>/train.json",
        base="<results>/base.json",
    output:
        weights="<run>/export/model.safetensors",
        config="<run>/export/config.json",
    log:
        "<run>/logs/export.log",
    conda:
        "../environment.yml"
    params:
        folder=folder_of(1),
        code=source_hash("workflow_scripts/export.py"),
    message:
        "Exporting to {params.folder}"
    script:
        "../workflow_scripts/export.py"
