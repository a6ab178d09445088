wildcard_constraints:
    owner="[^/]+",
    repository="[^/]+",


# The hub's repositories of the released model, whatever the data: `snakemake fetch` gets these.
RELEASED = released_model()
MODEL = config["model"]
FETCHED = "checkpoints/{owner}/{repository}/fetched.json"


def is_local(value):
    return value is None or Path(value).exists()


def repositories(model):
    """Return revision and files to fetch, by repository, of what a model's settings name on the hub."""
    wanted = {
        "base": (None, model["base"]),
        "video_encoder": ([Path(model["video_encoder"] or "").name], model["video_encoder"]),
        "image_encoder": (["config.json", "pytorch_model.bin"], model["image_encoder"]),
    }
    return {
        "/".join(value.split("/")[:2]): {"revision": model[f"{name}_revision"], "patterns": patterns}
        for name, (patterns, value) in wanted.items()
        if not is_local(value)
    }


def base_files(wildcards):
    """Return the files that say what the base is: its own, or the record of its download."""
    local = [Path(value) for value in (MODEL[n] for n in ("base", "video_encoder", "image_encoder")) if value]
    files = [f for path in local for f in (sorted(path.glob("*")) if path.is_dir() else [path]) if f.is_file()]
    return [str(f) for f in files] + [f"checkpoints/{name}/fetched.json" for name in repositories(MODEL)]


rule fetch:
    """Download the base checkpoint and both encoders, once, for machines that are offline later."""
    input:
        [f"checkpoints/{name}/fetched.json" for name in repositories(RELEASED)],


rule fetch_repository:
    """Download what is used of one repository, at its pinned revision, and record the commit and digests."""
    output:
        record=FETCHED,
    log:
        "results/logs/fetch/{owner}/{repository}.log",
    conda:
        "../environment.yml"
    params:
        wanted=lambda wildcards: ({**repositories(RELEASED), **repositories(MODEL)})[
            f"{wildcards.owner}/{wildcards.repository}"
        ],
    retries: 2
    script:
        "../workflow_scripts/fetch_repository.py"


rule describe_base:
    """Record which base and encoders are used, by the digests of their files."""
    input:
        files=base_files,
    output:
        record="<results>/base.json",
    log:
        "<results>/logs/describe_base.log",
    conda:
        "../environment.yml"
    params:
        model={
            name: MODEL[name] if is_local(MODEL[name]) else f"checkpoints/{MODEL[name]}"
            for name in ("base", "video_encoder", "image_encoder")
        },
        code=source_hash("workflow_scripts/describe_base.py"),
    script:
        "../workflow_scripts/describe_base.py"
