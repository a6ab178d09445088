# Needs: what a run and its evaluation wrote, the clips' checks, the summary of the data, the preflight.
# Hands on: <run>/report.html; beside it <run>/adapter/README.md, the model card.
CARD = "mobilevideogpt/serving/model_card.md.j2"


rule report:
    """Show on one page what was trained on which data, and what the model learned."""
    input:
        train="<run>/train.json",
        metrics="<run>/metrics.json",
        predictions="<run>/predictions.jsonl",
        integrity="<results>/verify/report.json",
        summary=dataset_of("summary"),
        train_samples=dataset_of("train"),
        preflight="<results>/preflight.json",
    output:
        page=report("<run>/report.html", caption="../captions/page.rst", category="Report"),
    log:
        "<run>/logs/report.log",
    conda:
        "../environment.yml"
    params:
        code=source_hash("workflow_scripts/report.py", *PAGE, "mobilevideogpt/evaluation/report.html.j2", CARD),
    message:
        "Writing {output.page}"
    script:
        "../workflow_scripts/report.py"
