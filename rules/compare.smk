# Needs: runs that were trained and evaluated, named by `--config 'runs=[a,b]'`; it makes none of their files.
# Hands on: <results>/compare/a+b.html, the page, and a+b.json with the same content.


rule compare:
    """Compare runs on one page: `snakemake compare --config 'runs=[a,b]'`."""
    output:
        page=f"<results>/compare/{COMPARISON}.html",
        record=f"<results>/compare/{COMPARISON}.json",
    log:
        f"<results>/logs/compare/{COMPARISON}.log",
    conda:
        "../environment.yml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        # No inputs: Snakemake would bring the current run up to date first, and train.
        files=files_of_runs,
        runs=lambda wildcards: config.get("runs", []),
        results=lambda wildcards: RESULTS,
        code=source_hash("workflow_scripts/compare.py", *PAGE, "mobilevideogpt/evaluation/compare.html.j2"),
    message:
        "Comparing {params.runs}"
    script:
        "../workflow_scripts/compare.py"
