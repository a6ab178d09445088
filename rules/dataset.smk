rule manifest:
    """Write dataset/manifest.json from dataset/<exercise>/*.mp4 and the labels, for who has only those."""
    log:
        "results/logs/manifest.log",
    conda:
        "../environment.yml"
    params:
        data_root="dataset",
        labels=[str(path) for path in LABEL_FILES],
    script:
        "../workflow_scripts/manifest.py"
