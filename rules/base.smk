wildcard_constraints:
    owner="[^/]+",
    repository="[^/]+",


rule fetch:
    """Download the base checkpoint and both encoders, once, for machines that are offline later."""
    input:
        [f"checkpoints/{name}/fetched.json" for name in repositories(RELEASED)],


rule fetch_repository:
    """Download what is used of one repository, at its pinned revision, and record the commit and digests."""
    output:
        record="checkpoints/{owner}/{repository}/fetched.json",
    log:
        "results/logs/fetch/{owner}/{repository}.log",
    retries: 2
    conda:
        "../environment.yml"
    params:
        wanted=repository_wanted,
    message:
        "Downloading {wildcards.owner}/{wildcards.repository}"
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
        model=model_places(),
        bytes=sizes_of(base_files),
        code=source_hash("workflow_scripts/describe_base.py"),
    message:
        "Recording the base checkpoint and the encoders"
    script:
        "../workflow_scripts/describe_base.py"
