"""Checks as texts, tables and JSON."""

from mobilevideogpt.checks import Check, all_ok, failed_lines, listing, markdown_table, print_checks

GOOD = Check("disk", True, "9 GB free", "free some space")
BAD = Check("labels", False, "no label file | none", "add one")
LATER = Check("model", True, "not here yet: org/model", "`snakemake fetch` downloads it", later=True)
TOLD = Check("manifest", False, "dataset/manifest.json: is missing; add it")


def test_a_check_that_passed_has_no_remedy():
    assert GOOD.remedy == "" and GOOD.text == "9 GB free"
    assert GOOD.to_json() == {"name": "disk", "ok": True, "detail": "9 GB free", "remedy": ""}
    assert LATER.ok and LATER.remedy and LATER.to_json()["later"] is True and Check(**LATER.to_json()) == LATER
    assert BAD.text == "no label file | none; add one"


def test_the_checks_that_failed_are_listed():
    assert all_ok([GOOD]) and not all_ok([GOOD, BAD])
    assert failed_lines([GOOD, BAD, TOLD]) == (
        "  labels: no label file | none; add one\n  manifest: dataset/manifest.json: is missing; add it"
    )


def test_the_table_is_aligned_and_has_a_remedy_below_each_check_that_failed(capsys):
    print_checks([GOOD, BAD, LATER, TOLD])
    assert capsys.readouterr().out.splitlines() == [
        "ok     disk      9 GB free",
        "WRONG  labels    no label file | none",
        "                 -> add one",
        "later  model     not here yet: org/model",
        "                 -> `snakemake fetch` downloads it",
        "WRONG  manifest  dataset/manifest.json: is missing; add it",
        "",
        "4 checks: 1 ok, 1 later, 2 wrong",
    ]
    print_checks([GOOD])
    assert capsys.readouterr().out.endswith("\n1 check: all ok\n")


def test_a_cell_of_the_page_escapes_its_border():
    assert markdown_table([LATER])[-1].startswith("| later | model |")
    assert markdown_table([BAD])[-1] == "| **wrong** | labels | no label file \\| none; add one |"


def test_a_cell_of_the_page_contains_neither_html_nor_a_link():
    damage = Check("clip", False, "<img src=x onerror=alert(1)> ![x](http://a.b/c) <b>a & b</b>\nnext")
    cell = markdown_table([damage])[-1]
    assert "&lt;img src=x onerror=alert(1)&gt; ![x]\\(http://a.b/c) &lt;b&gt;a &amp; b&lt;/b&gt; next" in cell


def test_of_many_items_the_first_are_named_and_the_others_counted():
    assert listing(["a", "b", "c"]) == "a, b, c"
    assert listing(list("abcdef")) == "a, b, c and 3 more"
