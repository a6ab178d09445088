rule finetune:
    """Fine-tune language model and projectors, or go on where a run was stopped; the adapter lies beside train.json."""
    input:
        train=annotations_of("train"),
        val=annotations_of("val"),
        train_features=features_of("train"),
        val_features=features_of("val"),
        base="<results>/base.json",
        preflight=passed_preflight,
    output:
        record="<run>/train.json",
    log:
        "<run>/logs/finetune.log",
    conda:
        "../environment.yml"
    threads: workflow.cores
    resources:
        gpu=1,
    params:
        settings=json.dumps(config["finetune"]),
        run_folder=folder_of(1),
        preflight=f"{RESULTS}/preflight.json",  # no input: it differs from machine to machine
        store=f"{RESULTS}/features",
        uncached="" if config["features"]["cache"] else f"--uncached {config['features']['dtype']}",
        code=source_hash("mobilevideogpt/training/finetune.py"),
        script=source_hash("workflow_scripts/finetune.py"),  # draws the plots, too; no part of the training's digest
    message:
        "Fine-tuning; log and plots in {params.run_folder}"
    shell:
        "python workflow_scripts/finetune.py --settings {params.settings:q} --code-hash {params.code}"
        " --train {input.train} --val {input.val} --features-index {input.train_features} {input.val_features}"
        " --features {params.store} {params.uncached} --base {input.base} --run-folder {params.run_folder}"
        " --preflight {params.preflight} --output {output.record} --log {log}"
