# Needs: clips and labels below dataset/, or a data set on the hub.
# Hands on: the manifest of the user's clips and a template of their labels, or clips, labels and manifest of the hub's, dataset/hub/.


rule manifest:
    """Write dataset/manifest.json from dataset/<exercise>/*.mp4 and the labels, or add new clips to it.

    Without labels, it also writes a template for them, dataset/labels.csv.
    """
    log:
        "results/logs/manifest.log",
    conda:
        "../environment.yml"
    params:
        data_root="dataset",
        labels=[f"dataset/{name}" for name in ANSWER_FILES["labels"]],
        template=lambda wildcards: config["annotations"]["source"] == "labels",
    message:
        "Writing dataset/manifest.json"
    script:
        "../workflow_scripts/manifest.py"


# A checkpoint: which clips there are is known after the download.
checkpoint download_clips:
    """Download a few clips of each exercise and their labels from a data set on the hub."""
    output:
        manifest="dataset/hub/manifest.json",
    log:
        "results/hub/logs/download_clips.log",
    conda:
        "../environment.yml"
    params:
        repo=setting("dataset/hub_repo"),
        revision=setting("dataset/hub_revision"),
        per_exercise=setting("dataset/hub_clips_per_exercise"),
        seed=setting("annotations/seed"),
        source=setting("annotations/source"),
    message:
        "Downloading clips from {params.repo}"
    script:
        "../workflow_scripts/download_clips.py"
