"""Fixtures that several test folders share: an empty project, and files written from values."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """An empty project with a ``dataset/`` folder, as the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset").mkdir()
    return tmp_path


@pytest.fixture
def write(project):
    """Write a value as JSON (a text unchanged) and return the path."""

    def to(path: str, value: object) -> str:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    return to
