# Needs: nothing.
# Hands on: the sample's clips, manifest and labels, dataset/sample/.


rule render_sample:
    """Draw the sample's clips and write their labels."""
    output:
        manifest="dataset/sample/manifest.json",
        labels="dataset/sample/fine_grained_labels.json",
        clips=[f"dataset/sample/{name}" for name in clip_names()],
    log:
        "results/sample/logs/render_sample.log",
    benchmark:
        "results/sample/benchmarks/render_sample.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        seed=0,
        code=source_hash("workflow_scripts/render_sample.py"),
    message:
        "Drawing the 30 clips of the sample"
    script:
        "../workflow_scripts/render_sample.py"
