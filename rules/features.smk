checkpoint features:
    """Run the frozen encoders over the clips that have no features yet."""
    input:
        report="<results>/verify/report.json",
        hashes="<results>/verify/hashes.json",
        train=annotations_of("train"),
        val=annotations_of("val"),
        test=annotations_of("test"),
        base="<results>/base.json",
    output:
        train="<results>/features/train.json",
        val="<results>/features/val.json",
        test="<results>/features/test.json",
    log:
        "<results>/logs/features.log",
    conda:
        "../environment.yml"
    threads: workflow.cores
    resources:
        gpu=1,
    params:
        store=folder_of(1),
        cache=lookup(within=config, dpath="features/cache"),
        dtype=lookup(within=config, dpath="features/dtype"),
        batch_size=lookup(within=config, dpath="features/batch_size"),
        extractor=source_hash("mobilevideogpt/model/modeling.py", "mobilevideogpt/video/pixels.py"),
        code=source_hash("workflow_scripts/features.py"),
    message:
        "Computing the features of clips that have none yet"
    script:
        "../workflow_scripts/features.py"


say_what_is_lost(checkpoints.features)
