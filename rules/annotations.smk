checkpoint annotations:
    """Join clips and labels, split them, and write the conversations that are trained and tested on."""
    input:
        manifest="<data>/manifest.json",
        labels=labels_file,
    output:
        train="<results>/annotations/qved_train.json",
        val="<results>/annotations/qved_val.json",
        test="<results>/annotations/qved_test.json",
        summary="<results>/annotations/summary.json",
    log:
        "<results>/logs/annotations.log",
    conda:
        "../environment.yml"
    params:
        data_root=folder_of(1, "input"),
        exclude=lookup(within=config, dpath="dataset/exclude"),
        prompt=literal(config["annotations"]["prompt"]),
        split=lookup(within=config, dpath="annotations/split"),
        seed=lookup(within=config, dpath="annotations/seed"),
        code=source_hash("workflow_scripts/annotations.py"),
    message:
        "Joining clips and labels, splitting them"
    script:
        "../workflow_scripts/annotations.py"
