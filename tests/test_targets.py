"""Targets that are mistyped."""

import re
from pathlib import Path

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.targets import NAMED, check_targets

ROOT = Path(__file__).parents[1]
RULES = {
    name
    for file in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    for name in re.findall(r"^(?:rule|checkpoint) (\w+):", file.read_text(encoding="utf-8"), re.M)
}


def test_the_named_targets_are_rules():
    assert len(RULES) > 20 and not [name for name in NAMED if name not in RULES | {"push"}]


@pytest.mark.parametrize(
    ("target", "meant"), [("finetun", "finetune"), ("reprot", "report"), ("probe_clips", "probe_clip")]
)
def test_a_mistyped_target_gets_the_most_similar_one_and_the_list(target, meant):
    with pytest.raises(
        InputError, match=rf"^{target}: there is no such target; did you mean `snakemake {meant}`\?"
    ) as error:
        check_targets(["report", target], RULES)
    assert "Targets: manifest (list the clips), verify (check everything)" in str(error.value)


def test_an_unknown_word_gets_the_list_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^xyzzy: there is no such target; Targets: manifest"):
        check_targets(["xyzzy"], RULES)
    (tmp_path / "xyzzy").touch()
    check_targets(["xyzzy"], RULES)


def test_rules_and_paths_are_left_to_snakemake():
    check_targets(["finetune", "results/x/report.html", "gone.json", "check_labels"], RULES)
