rule render_sample:
    """Draw the sample's clips and write their labels."""
    output:
        manifest="dataset/sample/manifest.json",
        labels="dataset/sample/fine_grained_labels.json",
        clips=expand("dataset/sample/{clip}", clip=clip_names()),
    log:
        "results/sample/logs/render_sample.log",
    conda:
        "../environment.yml"
    params:
        seed=0,
        code=source_hash("workflow_scripts/render_sample.py"),
    message:
        "Drawing the 30 clips of the sample"
    script:
        "../workflow_scripts/render_sample.py"
