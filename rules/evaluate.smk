# Needs: a run's train.json and adapter, the samples of test and their features, the base.
# Hands on: <run>/metrics.json, predictions.jsonl and predictions.csv; the answer for a clip; <run>/export/.


rule evaluate:
    """Answer the test clips with the base, with the fine-tuned model, and with another exercise's clip shown."""
    input:
        train="<run>/train.json",
        test=dataset_of("test"),
        train_samples=dataset_of("train"),  # their commonest answers and their lengths
        val_samples=dataset_of("val"),
        base="<results>/base.json",
    output:
        metrics="<run>/metrics.json",
        predictions="<run>/predictions.jsonl",
        table="<run>/predictions.csv",
    log:
        "<run>/logs/evaluate.log",
    benchmark:
        "<run>/benchmarks/evaluate.tsv"
    conda:
        "../environment.yml"
    threads: workflow.cores
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=240,
    params:
        store=FEATURES,
        uncached=None if config["features"]["cache"] else config["features"]["dtype"],
        batch_size=setting("evaluate/batch_size"),
        max_new_tokens=setting("evaluate/max_new_tokens"),
        seed=setting("evaluate/seed"),
        code=source_hash("workflow_scripts/evaluate.py"),
    message:
        "Evaluating base, fine-tuned model and grounding control on the test clips"
    script:
        "../workflow_scripts/evaluate.py"


rule infer:
    """Print the fine-tuned model's answer for one clip: `snakemake infer --config video=clip.mp4`."""
    input:
        clip_to_answer,
        train="<run>/train.json",
        base="<results>/base.json",
    log:
        "<run>/logs/infer.log",
    conda:
        "../environment.yml"
    threads: workflow.cores
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=30,
    params:
        data_root=DATA,
        video=lambda wildcards: config.get("video"),
        exercise=lambda wildcards: config.get("exercise"),
        prompt=lambda wildcards: config.get("prompt", config["annotations"]["prompt"]),
        max_new_tokens=setting("evaluate/max_new_tokens"),
    message:
        "Answering {params.video}"
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
        sums="<run>/export/SHA256SUMS",
        made_by="<run>/export/made_by.txt",
    log:
        "<run>/logs/export.log",
    benchmark:
        "<run>/benchmarks/export.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=16000,
        runtime=30,
    params:
        folder=lambda wildcards, output: str(Path(output.weights).parent),
        # A function, so that the files are read if an export is asked for, and not by each command.
        made_by=lambda wildcards: made_by(f"{RUN}/export/made_by.txt", sums_are_right(Path(RUN, "export"))),
        code=source_hash("workflow_scripts/export.py"),
    message:
        "Exporting to {params.folder}"
    script:
        "../workflow_scripts/export.py"
