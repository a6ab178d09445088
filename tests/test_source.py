"""The digest of a script's code."""

import pytest

from mobilevideogpt.source import _cache_of, source_digest


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "mobilevideogpt"
    (package / "data").mkdir(parents=True)
    for folder in (package, package / "data"):
        (folder / "__init__.py").write_text("")
    (package / "files.py").write_text("import json\n\ndef write(x):\n    return json.dumps(x)\n")
    (package / "data" / "labels.py").write_text("from mobilevideogpt.files import write\n")
    (package / "other.py").write_text("x = 1\n")
    (tmp_path / "script.py").write_text("def main():\n    from mobilevideogpt.data import labels\n    return labels\n")
    return tmp_path


def digest(project):
    return source_digest("script.py", root=project)


def test_a_module_that_is_imported_through_another_counts(project):
    before = digest(project)
    (project / "mobilevideogpt" / "files.py").write_text("import json\n\ndef write(x):\n    return json.dumps([x])\n")
    assert digest(project) != before


def test_an_unrelated_module_a_comment_and_a_docstring_do_not_count(project):
    before = digest(project)
    (project / "mobilevideogpt" / "other.py").write_text("x = 2\n")
    (project / "mobilevideogpt" / "files.py").write_text(
        '"""Files."""\nimport json\n\n\ndef write(x):\n    """Write."""\n    return json.dumps(x)  # as JSON\n'
    )
    assert digest(project) == before


def test_another_version_of_a_library_counts_but_not_another_build(project, monkeypatch):
    (project / "mobilevideogpt" / "files.py").write_text("import torch\n")
    import mobilevideogpt.source as source

    seen = {}
    for version in ("2.13.0", "2.13.0+cu130", "2.14.0"):
        source._version.cache_clear()
        monkeypatch.setattr(source.metadata, "version", lambda name, version=version: version)
        seen[version] = digest(project)
    source._version.cache_clear()
    assert seen["2.13.0"] == seen["2.13.0+cu130"] != seen["2.14.0"]


def test_a_data_file_counts_by_its_bytes(project):
    (project / "page.html").write_text("a")
    first = source_digest("script.py", "page.html", root=project)
    (project / "page.html").write_text("b")
    assert source_digest("script.py", "page.html", root=project) != first


def test_the_cache_between_runs_changes_no_digest(project):
    first = digest(project)
    (project / ".snakemake").mkdir()
    _cache_of.cache_clear()
    assert digest(project) == digest(project) == first
    assert (project / ".snakemake/source_digests.json").exists()
    (project / "mobilevideogpt" / "files.py").write_text("import json\n\ndef write(x):\n    return json.dumps((x,))\n")
    changed = digest(project)
    assert changed != first
    (project / ".snakemake/source_digests.json").write_text("{half")
    _cache_of.cache_clear()  # as another process
    assert digest(project) == changed
