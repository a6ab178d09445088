# Needs: the manifest and the labels; <results>/verify/duplicates.json and report.json.
# Hands on: the samples of each split and a summary, <results>/annotations/; copies of the samples beside the data.


rule check_labels:
    """Join clips and labels before any clip is decoded, and write the samples as they are if no two clips are alike."""
    input:
        manifest=ancient(until_now(manifest_file)) if SOURCE == "qved" else manifest_file,
        labels=until_now(labels_file),
        workers=until_now(if_there("fine_grained_labels_with_worker_ids.json")),
        pins=until_now(if_there("splits.csv")),
    output:
        draft="<results>/annotations/draft.json",
    log:
        "<results>/logs/check_labels.log",
    priority: 3  # a fault of the labels is reported before hours of decoding
    conda:
        "../environment.yml"
    params:
        data_root=DATA,
        manifest=users(manifest_file),
        labels=users(labels_file),
        workers=users(if_there("fine_grained_labels_with_worker_ids.json")),
        pins=users(if_there("splits.csv")),
        # The digest of its clips stands for the user's manifest, so that a new layout changes nothing.
        clips=clips_digest,
        contents=contents_of(labels_file, if_there("fine_grained_labels_with_worker_ids.json"), if_there("splits.csv")),
        source=setting("annotations/source"),
        exclude=setting("dataset/exclude"),
        prompt=setting("annotations/prompt"),
        split=setting("annotations/split"),
        split_source=setting("annotations/split_source"),
        recording_pattern=setting("annotations/recording_pattern"),
        seed=setting("annotations/seed"),
        on_error=setting("integrity/on_error"),
        code=source_hash("workflow_scripts/check_labels.py"),
    message:
        "Checking the labels against the clips"
    script:
        "../workflow_scripts/check_labels.py"


rule build_annotations:
    """Join clips and labels, split them, and write the conversations to train and test on."""
    input:
        manifest=ancient(until_now(manifest_file)) if SOURCE == "qved" else manifest_file,
        labels=until_now(labels_file),
        workers=until_now(if_there("fine_grained_labels_with_worker_ids.json")),
        pins=until_now(if_there("splits.csv")),
        checked="<results>/annotations/draft.json",
        duplicates="<results>/verify/duplicates.json",
        integrity="<results>/verify/report.json",
    output:
        train="<results>/annotations/qved_train.json",
        val="<results>/annotations/qved_val.json",
        test="<results>/annotations/qved_test.json",
        ground_truth="<results>/annotations/ground_truth.json",
        summary="<results>/annotations/summary.json",
    log:
        "<results>/logs/build_annotations.log",
    priority: 2
    conda:
        "../environment.yml"
    params:
        data_root=DATA,
        manifest=users(manifest_file),
        labels=users(labels_file),
        workers=users(if_there("fine_grained_labels_with_worker_ids.json")),
        pins=users(if_there("splits.csv")),
        # The digest of its clips stands for the user's manifest, so that a new layout changes nothing.
        clips=clips_digest,
        equal_sizes=lambda wildcards: clips_of_equal_size(clip_files()) if SOURCE == "qved" else None,
        contents=contents_of(labels_file, if_there("fine_grained_labels_with_worker_ids.json"), if_there("splits.csv")),
        source=setting("annotations/source"),
        exclude=setting("dataset/exclude"),
        prompt=setting("annotations/prompt"),
        split=setting("annotations/split"),
        split_source=setting("annotations/split_source"),
        recording_pattern=setting("annotations/recording_pattern"),
        seed=setting("annotations/seed"),
        on_error=setting("integrity/on_error"),
        # For a warning alone, so not compared: it is a function of `output`.
        max_new_tokens=lambda wildcards, output: config["evaluate"]["max_new_tokens"],
        code=source_hash("workflow_scripts/build_annotations.py"),
    message:
        "Joining clips and labels, splitting them"
    script:
        "../workflow_scripts/build_annotations.py"


rule annotations:
    """Copy the annotations beside the data, as qved_train.json, qved_val.json and qved_test.json."""
    input:
        train="<results>/annotations/qved_train.json",
        val="<results>/annotations/qved_val.json",
        test="<results>/annotations/qved_test.json",
    output:
        made_by="<results>/annotations/published.txt",
    log:
        "<results>/logs/annotations.log",
    priority: 2
    conda:
        "../environment.yml"
    params:
        data_root=DATA,
        memory=f"{RESULTS}/annotations/copies.json",
        made_by=made_by(
            f"{RESULTS}/annotations/published.txt", is_published(SPLITS, DATA, f"{RESULTS}/annotations/copies.json")
        ),
        code=source_hash("workflow_scripts/annotations.py"),
    message:
        "Copying the annotations to {params.data_root}/"
    script:
        "../workflow_scripts/annotations.py"


rule pin_splits:
    """Write the split of each clip to splits.csv beside the manifest, unless the file lists the clip already."""
    input:
        train="<results>/annotations/qved_train.json",
        val="<results>/annotations/qved_val.json",
        test="<results>/annotations/qved_test.json",
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
