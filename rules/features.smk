# Needs: the clips' checks, the samples, the base, and a preflight that passed.
# Hands on: <results>/features/{train,val,test}.json, each sample with the key of its clip's features, and summary.json.


rule features_shard:
    """Run the frozen encoders over the clips of a shard that have no features yet, where there are many clips.

    Only other checks of its own clips let a shard run again; what it then lacks, `features` computes.
    """
    input:
        checks=checks_of_feature_shard,
        report=ancient("<results>/verify/report.json"),
        train=ancient("<results>/annotations/qved_train.json"),
        val=ancient("<results>/annotations/qved_val.json"),
        test=ancient("<results>/annotations/qved_test.json"),
        base="<results>/base.json",
        preflight=ancient("<results>/preflight.passed"),
    output:
        found="<results>/features/shards/{shard}.json",
    log:
        "<results>/logs/features_shard/{shard}.log",
    benchmark:
        "<results>/benchmarks/features_shard/{shard}.tsv"
    conda:
        "../environment.yml"
    threads: threads_of_job
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=240,
    params:
        store=lambda wildcards, output: str(Path(output.found).parents[1]),
        dtype=setting("features/dtype"),
        precision=setting("features/precision"),
        batch_size=setting("features/batch_size"),
        extractor=EXTRACTOR,
        code=source_hash("workflow_scripts/features_shard.py"),
    message:
        "Computing the features of the clips of shard {wildcards.shard} that have none yet"
    script:
        "../workflow_scripts/features_shard.py"


# A checkpoint: the rules that follow read its lists through `dataset_of`, and run again only if these changed.
checkpoint features:
    """Run the frozen encoders over the clips that have no features yet, and complete the samples."""
    input:
        shards=lambda wildcards: [f"{FEATURES}/shards/{shard}.json" for shard in sorted(feature_shards())],
        report="<results>/verify/report.json",
        duplicates="<results>/verify/duplicates.json",
        train="<results>/annotations/qved_train.json",
        val="<results>/annotations/qved_val.json",
        test="<results>/annotations/qved_test.json",
        summary="<results>/annotations/summary.json",
        published="<results>/annotations/published.txt",
        base="<results>/base.json",
        preflight="<results>/preflight.passed",
    output:
        train="<results>/features/train.json",
        val="<results>/features/val.json",
        test="<results>/features/test.json",
        summary="<results>/features/summary.json",
        made_by="<results>/features/made_by.txt",
    log:
        "<results>/logs/features.log",
    benchmark:
        "<results>/benchmarks/features.tsv"
    conda:
        "../environment.yml"
    threads: threads_of_job
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=480,  # the next attempt computes what is left
    params:
        store=lambda wildcards, output: str(Path(output.train).parent),
        cache=setting("features/cache"),
        dtype=setting("features/dtype"),
        precision=setting("features/precision"),
        batch_size=setting("features/batch_size"),
        made_by=made_by(
            f"{FEATURES}/made_by.txt",
            all(Path(FEATURES, f"{name}.json").exists() for name in (*SPLITS, "summary", "clips")),
        ),
        extractor=EXTRACTOR,
        code=source_hash("workflow_scripts/features.py"),
    message:
        "Computing the features of clips that have none yet"
    script:
        "../workflow_scripts/features.py"


rule clean_features:
    """List the features that no annotation names any longer, and delete them."""
    log:
        "<results>/logs/clean_features.log",
    conda:
        "../environment.yml"
    params:
        store=FEATURES,
    message:
        "Deleting the features in {params.store} that no annotation names"
    script:
        "../workflow_scripts/clean_features.py"
