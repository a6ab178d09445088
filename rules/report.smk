rule report:
    """Show what was trained on what, and what it learned, on one page."""
    input:
        train="<run>/train.json",
        metrics="<run>/metrics.json",
        predictions="<run>/predictions.jsonl",
        integrity="<results>/verify/report.json",
        annotations=annotations_of("summary"),
        duplicates="<results>/verify/duplicates.json",
        preflight="<results>/preflight.json",
    output:
        page="<run>/report.html",
    log:
        "<run>/logs/report.log",
    conda:
        "../environment.yml"
    params:
        code=source_hash("workflow_scripts/report.py", "mobilevideogpt/evaluation/report.html.j2"),
    message:
        "Writing {output.page}"
    script:
        "../workflow_scripts/report.py"
