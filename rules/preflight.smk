# The settings that decide whether the fine-tuning runs on the machine; others may change without a new rehearsal.
TAKES_MEMORY = """
    method quantization batch_size gradient_accumulation_steps effective_batch_size lora_r max_text_tokens precision
    gradient_checkpointing save_total_limit deepspeed processes report_to
"""


# A checkpoint: `passed` is the same each time, so that the machine's record retrains nothing. ancient() would not do:
# with it, a job that has reasons of its own does not run where the preflight runs in the same call.
checkpoint preflight:
    """Check GPU, precision, disk and memory, and rehearse two steps of the fine-tuning."""
    input:
        base="<results>/base.json",
        train=annotations_of("train"),
        val=annotations_of("val"),
        test=annotations_of("test"),
    output:
        record="<results>/preflight.json",
        passed="<results>/preflight.passed",
    log:
        "<results>/logs/preflight.log",
    priority: 1  # what is wrong is told before the features are computed
    conda:
        "../environment.yml"
    threads: workflow.cores
    resources:
        gpu=1,
    params:
        finetune={name: config["finetune"][name] for name in TAKES_MEMORY.split()},
        store=f"{RESULTS}/features",
        features_dtype=lookup(within=config, dpath="features/dtype"),
        encode=not config["features"]["cache"],
        allow_cpu=lookup(within=config, dpath="preflight/allow_cpu"),
        min_free_disk_gb=lookup(within=config, dpath="preflight/min_free_disk_gb"),
        run_folder=RUN,
        code=source_hash("workflow_scripts/preflight.py", "mobilevideogpt/training/rehearsal.py"),
    message:
        "Preflight: rehearsing two training steps"
    script:
        "../workflow_scripts/preflight.py"


say_what_is_lost(checkpoints.preflight)
