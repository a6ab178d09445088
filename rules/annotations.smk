# The copies in dataset/ are no outputs, which Snakemake would delete. Where one is gone or not ours, the rule is to run
# again, so what says that they are in place goes, too.
if not is_published(("train", "val", "test"), DATA, f"{RESULTS}/annotations/copies.json"):
    Path(RESULTS, "annotations/published.txt").unlink(missing_ok=True)


checkpoint annotations:
    """Join clips and labels, split them, and write the conversations that are trained and tested on."""
    input:
        manifest=manifest_file,
        labels=labels_file,
        workers=if_there("fine_grained_labels_with_worker_ids.json"),
        pins=if_there("splits.csv"),
        integrity=branch(
            lookup(within=config, dpath="integrity/on_error") == "leave_out", then="<results>/verify/report.json"
        ),
    output:
        train="<results>/annotations/qved_train.json",
        val="<results>/annotations/qved_val.json",
        test="<results>/annotations/qved_test.json",
        ground_truth="<results>/annotations/ground_truth.json",
        summary="<results>/annotations/summary.json",
        published="<results>/annotations/published.txt",
    log:
        "<results>/logs/annotations.log",
    priority: 2  # what is wrong with the labels is told before hours of decoding
    conda:
        "../environment.yml"
    params:
        data_root=folder_of(1, "input"),
        bytes=sizes_of(
            manifest_file, labels_file, if_there("fine_grained_labels_with_worker_ids.json"), if_there("splits.csv")
        ),
        memory=f"{RESULTS}/annotations/copies.json",
        source=lookup(within=config, dpath="annotations/source"),
        exclude=lookup(within=config, dpath="dataset/exclude"),
        prompt=literal(config["annotations"]["prompt"]),
        split=lookup(within=config, dpath="annotations/split"),
        split_source=lookup(within=config, dpath="annotations/split_source"),
        recording_pattern=literal(config["annotations"]["recording_pattern"]),
        seed=lookup(within=config, dpath="annotations/seed"),
        code=source_hash("workflow_scripts/annotations.py"),
    message:
        "Joining clips and labels, splitting them"
    script:
        "../workflow_scripts/annotations.py"


say_what_is_lost(checkpoints.annotations)


rule pin_splits:
    """Write the clips' splits to splits.csv beside the manifest, where it does not hold them yet."""
    input:
        train=annotations_of("train"),
        val=annotations_of("val"),
        test=annotations_of("test"),
    log:
        "<results>/logs/pin_splits.log",
    conda:
        "../environment.yml"
    params:
        data_root=DATA,
    message:
        "Writing {params.data_root}/splits.csv"
    script:
        "../workflow_scripts/pin_splits.py"


rule find_duplicates:
    """Look for clips that show the same take in different splits."""
    input:
        hashes="<results>/verify/hashes.json",
        train=annotations_of("train"),
        val=annotations_of("val"),
        test=annotations_of("test"),
    output:
        pairs="<results>/verify/duplicates.json",
    log:
        "<results>/logs/find_duplicates.log",
    conda:
        "../environment.yml"
    params:
        code=source_hash("workflow_scripts/find_duplicates.py"),
    message:
        "Looking for the same take in different splits"
    script:
        "../workflow_scripts/find_duplicates.py"
