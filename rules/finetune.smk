# Needs: the samples of train and val, their features, the base, and a machine that passed the preflight.
# Hands on: <run>/train.json; settings.json, as they were asked for; samples/, what it was trained on; beside them
# adapter/, checkpoints, log and plots.

# To Slurm's plugin: the job runs on its first node, starts the others by srun, and has these GPUs on each.
SEVERAL_NODES = (
    {"mpi": "srun", "nodes": NODES, "tasks": NODES, "tasks_per_gpu": 0, "gres": f"gpu:{ON_EACH_NODE}"}
    if NODES > 1
    else {}
)


rule finetune:
    """Fine-tune language model and projectors, or resume an interrupted run."""
    input:
        train=dataset_of("train"),
        val=dataset_of("val"),
        base="<results>/base.json",
    output:
        record="<run>/train.json",
        made_by="<run>/made_by.txt",
        settings="<run>/settings.json",  # `snakemake report` uses them
        train="<run>/samples/train.json",
        val="<run>/samples/val.json",
        loss=report("<run>/plots/loss.svg", caption="../captions/loss.rst", category="Training"),
        learning_rate=report(
            "<run>/plots/learning_rate.svg", caption="../captions/learning_rate.rst", category="Training"
        ),
        grad_norm=report("<run>/plots/grad_norm.svg", caption="../captions/grad_norm.rst", category="Training"),
    log:
        "<run>/logs/finetune.log",
    benchmark:
        "<run>/benchmarks/finetune.tsv"
    conda:
        "../environment.yml"
    threads: threads_of_job
    resources:
        **SEVERAL_NODES,
        gpu=lambda wildcards: 0 if NODES > 1 and runs_elsewhere() else gpus_of_a_node(wildcards),
        mem_mb=growing(16000 * ON_EACH_NODE),  # of each node
        runtime=1440,  # the next attempt resumes from the last checkpoint
    params:
        deepspeed=lambda wildcards: deepspeed_digest(config["finetune"]["deepspeed"], in_project("config")),
        settings=setting("finetune"),  # compared; the script reads them in the configuration
        # A function of `output` is a parameter that Snakemake does not compare: other settings retrain nothing.
        program=lambda wildcards, output: in_project("workflow_scripts/finetune.py"),
        configuration=lambda wildcards, output: json.dumps(config),
        run_folder=lambda wildcards, output: str(Path(output.record).parent),
        preflight=f"{RESULTS}/preflight.json",  # no input: it differs from machine to machine
        store=FEATURES,
        uncached="" if config["features"]["cache"] else f"--uncached {config['features']['dtype']}",
        made_by=made_by(f"{RUN}/made_by.txt", run_is_intact()),
        code=source_hash("mobilevideogpt/training/finetune.py"),
        script=source_hash("workflow_scripts/finetune.py"),  # draws the plots, too; no part of the training's digest
    message:
        "Fine-tuning; log and plots in {params.run_folder}"
    shell:
        "python {params.program} --configuration {params.configuration:q} --code-hash {params.code}"
        " --train {input.train} --val {input.val} --features {params.store} {params.uncached}"
        " --base {input.base} --run-folder {params.run_folder} --preflight {params.preflight}"
        " --output {output.record} --log {log} && echo {params.made_by} > {output.made_by}"
