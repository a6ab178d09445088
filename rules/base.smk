# Needs: the setting model, and the hub where it names repositories.
# Hands on: <results>/base.json, which says where base and encoders are and identifies them.
MODEL = ModelPaths.from_mapping(config["model"])
REPOSITORIES = {**repositories(CONFIGURATION.released_model), **repositories(config["model"])}


wildcard_constraints:
    owner="[^/]+",
    repository="[^/]+",


rule fetch:
    """Download the base checkpoint and both encoders, once, for machines that are offline later."""
    input:
        [f"checkpoints/{name}/fetched.json" for name in repositories(CONFIGURATION.released_model)],


rule fetch_repository:
    """Download the files in use of one repository, at its pinned revision, and record the commit and digests."""
    output:
        record="checkpoints/{owner}/{repository}/fetched.json",
    log:
        "results/logs/fetch/{owner}/{repository}.log",
    priority: 1
    conda:
        "../environment.yml"
    resources:
        hub=1,  # one at a time: if the hub cannot be reached, one message says so
    params:
        wanted=lambda wildcards: REPOSITORIES[f"{wildcards.owner}/{wildcards.repository}"],
        # For that message, so not compared: a function of `output`.
        missing=lambda wildcards, output: [
            name for name in repositories(config["model"]) if not Path(f"checkpoints/{name}/fetched.json").exists()
        ],
    message:
        "Downloading {wildcards.owner}/{wildcards.repository}"
    script:
        "../workflow_scripts/fetch_repository.py"


rule describe_base:
    """Record which base and encoders are used, by the digests of their files."""
    input:
        files=MODEL.files(),
    output:
        record="<results>/base.json",
    log:
        "<results>/logs/describe_base.log",
    priority: 1
    conda:
        "../environment.yml"
    params:
        model=MODEL.local().named,
        bytes=sizes_of(lambda wildcards: MODEL.files()),
        code=source_hash("workflow_scripts/describe_base.py"),
    message:
        "Recording the base checkpoint and the encoders"
    script:
        "../workflow_scripts/describe_base.py"
