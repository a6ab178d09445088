# Needs: a run's train.json and adapter, the samples of test and their features, the base.
# Hands on: <run>/metrics.json, predictions.jsonl and predictions.csv.


rule evaluate:
    """Answer the test clips with the base, with the fine-tuned model, and with another exercise's clip shown."""
    input:
        train="<run>/train.json",
        test=dataset_of("test"),
        train_samples=dataset_of("train"),  # their commonest answers and their lengths
        val_samples=dataset_of("val"),
        base="<results>/base.json",
    output:
        metrics=report("<run>/metrics.json", caption="../captions/metrics.rst", category="Evaluation"),
        predictions="<run>/predictions.jsonl",
        table=report("<run>/predictions.csv", caption="../captions/predictions.rst", category="Evaluation"),
    log:
        "<run>/logs/evaluate.log",
    benchmark:
        "<run>/benchmarks/evaluate.tsv"
    conda:
        "../environment.yml"
    threads: threads_of_job
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(240),
    params:
        store=FEATURES,
        uncached=None if config["features"]["cache"] else config["features"]["dtype"],
        batch_size=setting("evaluate/batch_size"),
        max_new_tokens=setting("evaluate/max_new_tokens"),
        seed=setting("evaluate/seed"),
        code=source_hash("workflow_scripts/evaluate.py"),
    message:
        "Evaluating base, fine-tuned model and grounding control on the test clips"
    script:
        "../workflow_scripts/evaluate.py"
