rule manifest:
    """Write dataset/manifest.json from dataset/<exercise>/*.mp4 and the labels, for who has only those."""
    log:
        "results/logs/manifest.log",
    conda:
        "../environment.yml"
    params:
        data_root="dataset",
        labels=[f"dataset/{name}" for name in ANSWER_FILES["labels"]],
    message:
        "Writing dataset/manifest.json"
    script:
        "../workflow_scripts/manifest.py"


checkpoint download_clips:
    """Download a few clips of each exercise and their labels from a data set on the hub."""
    output:
        manifest="dataset/hub/manifest.json",
    log:
        "results/hub/logs/download_clips.log",
    conda:
        "../environment.yml"
    params:
        repo=lookup(within=config, dpath="dataset/hub_repo"),
        revision=lookup(within=config, dpath="dataset/hub_revision"),
        per_exercise=lookup(within=config, dpath="dataset/hub_clips_per_exercise"),
        seed=lookup(within=config, dpath="annotations/seed"),
        source=lookup(within=config, dpath="annotations/source"),
    message:
        "Downloading clips from {params.repo}"
    script:
        "../workflow_scripts/download_clips.py"
