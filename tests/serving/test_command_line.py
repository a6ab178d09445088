"""The program `mobilevideogpt` and the rule `infer`, which share their code."""

import json
import re
import subprocess
import sys

import pytest
import torch

from mobilevideogpt.serving import command_line
from mobilevideogpt.serving.answers import Table
from mobilevideogpt.serving.pipeline import Pipeline, Prediction


@pytest.fixture
def run(project, capsys, monkeypatch):
    """Run the program, and return its status and what it printed."""

    def call(*arguments):
        capsys.readouterr()
        status = command_line.main([*arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_one_clip_gives_the_answer_alone_several_a_table_and_json_a_line_each(run, project, pipeline):
    clips, options = ["dataset/squats/1.mp4", "dataset/squats/2.mp4"], ["--max-new-tokens", "6"]
    answers = pipeline([project / clip for clip in clips], exercise="squats", max_new_tokens=6)
    assert run("predict", "tiny", clips[0], *options)[:2] == (0, f"{answers[0]}\n")
    (project / "dataset/squats/3.mp4").write_text("no video")
    status, out, err = run("predict", "results/tiny", "dataset", *options, "--json", "--html", "answers.html")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1 and "1 of 3 clips were not answered about" in err
    assert [row["video"] for row in rows] == [*clips, "dataset/squats/3.mp4"]
    assert [row["answer"] for row in rows] == [*answers, None] and "does not decode" in rows[2]["error"]
    page = (project / "answers.html").read_text()
    assert page.count('<img src="data:image/jpeg') == 32 and page.count('class="chosen"') == 16
    assert "does not decode" in page


def test_an_answer_is_streamed(run):
    arguments = ("predict", "tiny", "dataset/squats/1.mp4", "--max-new-tokens", "6")
    status, out, _ = run(*arguments, "--stream")
    assert status == 0 and out.strip() == run(*arguments)[1].strip()


def test_the_precision_reaches_the_language_model(run, monkeypatch):
    loaded = []
    monkeypatch.setattr(Pipeline, "predict", lambda self, *_, **__: loaded.append(self.model.dtype) or iter(()))
    for precision in ("fp32", "bf16"):
        assert run("predict", "tiny", "dataset", "--precision", precision)[0] == 0
    assert loaded == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "nope", "dataset"], "ERROR: nope: there is no such run"),
        (["predict", "tiny", "gone.mp4"], r"ERROR: gone\.mp4: there is no such clip"),
        (["demo", "nope"], "ERROR: nope: there is no such run"),
    ],
)
def test_an_error_is_one_line(arguments, message, run):
    status, out, err = run(*arguments)
    assert status == 1 and not out and re.match(message, err) and "Traceback" not in err


def test_the_arguments_are_parsed_and_help_is_given_without_torch():
    code = "import sys\nfrom mobilevideogpt.serving.command_line import main\ntry:\n    main(['--help'])\n"
    code += "finally:\n    assert not {'torch', 'transformers'} & sys.modules.keys()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "predict" in found.stdout and "demo" in found.stdout


def test_a_long_answer_is_wrapped_beside_its_clip():
    table = Table(["a/1.mp4", "a/b.mp4"], width=40)
    assert table.row(Prediction("a/1.mp4", "?", "word " * 12)).splitlines() == [
        "1.mp4  " + "word " * 5 + "word",
        "       " + "word " * 5 + "word",
    ]
    assert table.row(Prediction("a/b.mp4", None, None, error="broken")) == "b.mp4  not answered: broken"


def test_the_rule_prints_the_answer_alone(script, project, pipeline, capsys):
    params = {"exercise": None, "prompt": None, "batch_size": 4, "max_new_tokens": 6, "run": "results/tiny"}
    params |= {"answers": project / "answers.txt", "precision": "auto"}
    capsys.readouterr()
    script("infer.py", video="dataset/squats/1.mp4", **params)
    expected = pipeline(project / "dataset/squats/1.mp4", exercise="squats", max_new_tokens=6)
    assert capsys.readouterr().out == (project / "answers.txt").read_text() == f"{expected}\n"


def test_the_precision_reaches_the_rules_model_too(script, project, monkeypatch):
    loaded, params = [], {"exercise": None, "prompt": None, "batch_size": 4, "max_new_tokens": 6}
    monkeypatch.setattr(Pipeline, "predict", lambda self, *_, **__: loaded.append(self.model.dtype) or iter(()))
    params |= {"run": "results/tiny", "answers": project / "answers.txt", "precision": "bf16"}
    script("infer.py", video="dataset/squats/1.mp4", **params)
    assert loaded == [torch.bfloat16]
