# Needs: the samples, the base, and the settings that decide how much memory a step uses.
# Hands on: <results>/device.passed; <results>/preflight.json, what the machine has and a step needs, and
# preflight.passed.
MEMORY_SETTINGS = """
    method quantization batch_size gradient_accumulation_steps effective_batch_size lora_r max_text_tokens precision
    gradient_checkpointing save_total_limit deepspeed processes nodes hostfile report_to
""".split()


rule check_device:
    """End at once where the fine-tuning needs a GPU and there is none, before anything is downloaded or decoded."""
    output:
        passed="<results>/device.passed",
    log:
        "<results>/logs/check_device.log",
    priority: 3  # known in seconds
    conda:
        "../environment.yml"
    resources:
        gpu=1,
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        allow_cpu=setting("preflight/allow_cpu"),
        # For a forecast alone, so not compared: functions of `output`.
        samples=lambda wildcards, output: None if SOURCE == "hub" else len(clips()),
        epochs=lambda wildcards, output: config["finetune"]["epochs"],
        code=source_hash("workflow_scripts/check_device.py"),
    message:
        "Looking for a GPU"
    script:
        "../workflow_scripts/check_device.py"


rule preflight:
    """Check GPU, precision, disk and memory, and rehearse a few steps of the fine-tuning."""
    input:
        device="<results>/device.passed",
        base="<results>/base.json",
        draft="<results>/annotations/draft.json",  # so that a fault of the machine is reported before hours of decoding
    output:
        record="<results>/preflight.json",
        passed="<results>/preflight.passed",
    log:
        "<results>/logs/preflight.log",
    benchmark:
        "<results>/benchmarks/preflight.tsv"
    priority: 1  # a fault of the machine is reported before the features are computed
    conda:
        "../environment.yml"
    threads: threads_of_job
    resources:
        gpu=gpus_of_a_node,
        mem_mb=growing(16000 * ON_EACH_NODE),
        runtime=growing(30),
    params:
        deepspeed=lambda wildcards: deepspeed_digest(config["finetune"]["deepspeed"], in_project("config")),
        finetune={name: config["finetune"][name] for name in MEMORY_SETTINGS},
        # Where the project is, and whose disk must have room, so not compared.
        deepspeed_configs=lambda wildcards, output: in_project("config"),
        run_folder=lambda wildcards, output: RUN,
        store=FEATURES,
        features_dtype=setting("features/dtype"),
        # For a forecast alone, so not compared: functions of `output`.
        extractor=lambda wildcards, output: EXTRACTOR,
        features_precision=lambda wildcards, output: config["features"]["precision"],
        report=lambda wildcards, output: f"{RESULTS}/verify/report.json",
        encode=not config["features"]["cache"],
        allow_cpu=setting("preflight/allow_cpu"),
        min_free_disk_gb=setting("preflight/min_free_disk_gb"),
        rehearsal=f"{RESULTS}/preflight.rehearsal.json",  # kept from run to run
        code=source_hash("workflow_scripts/preflight.py", "mobilevideogpt/training/rehearsal_worker.py"),
    message:
        "Preflight: rehearsing a few training steps"
    script:
        "../workflow_scripts/preflight.py"
