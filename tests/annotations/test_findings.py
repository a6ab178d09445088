import logging

from mobilevideogpt.annotations.findings import LISTED, NOTICES, REASONS, Code, Findings
from mobilevideogpt.wording import agree


def test_every_code_has_one_message():
    assert not [text for text in REASONS.values() for count in (1, 2) if "{" in agree(count, text)]
    assert REASONS.keys() | NOTICES.keys() == set(Code) and not REASONS.keys() & NOTICES.keys()


def test_the_summary_counts_all_items_of_a_code_and_lists_the_first():
    findings = Findings()
    findings.add(Code.EXCLUDED, *["x.mp4"] * (LISTED + 1))
    findings.add(Code.WITHOUT_ANSWER)
    [row] = findings.summary()  # none of the second code
    assert (row["code"], row["reason"], row["count"]) == (
        "excluded",
        "clips left out by dataset.exclude",
        LISTED + 1,
    )
    assert len(row["items"]) == LISTED


def test_a_finding_is_one_line_of_the_log_and_the_doubtful_ones_are_warnings(caplog):
    findings = Findings()
    findings.add(Code.EXCLUDED, "a.mp4")
    findings.add(Code.OTHER_EXERCISE, *"abcd")
    findings.notice(Code.PINNED, count=3, clips=25)
    with caplog.at_level(logging.INFO):
        findings.log()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "1 clip left out by dataset.exclude: a.mp4"),
        ("WARNING", "4 clips whose label does not begin with the manifest's exercise: a, b, c, ..."),
        ("INFO", "splits.csv settles 3 of 25 clips"),
    ]
