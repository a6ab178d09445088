"""Clips from the hub, with the real client against a server on this machine."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import huggingface_hub
import pytest
from huggingface_hub import constants

from mobilevideogpt.data.hub import choose_clips, download_clips
from mobilevideogpt.errors import InputError

COMMIT = "c" * 40
FILES = {f"{name}/{n:08}.mp4": f"{name} {n}".encode() for name in ("squats", "lunges") for n in range(4)}
FILES |= {"fine_grained_labels.json": b"[]", "README.md": b"clips", "squats/notes.txt": b""}


@pytest.fixture
def hub(monkeypatch):
    """A hub with one data set, ``lab/clips``; yields the files that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bytes, **headers):
            self.send_response(200)
            for name, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self):
            path = unquote(urlparse(self.path).path)
            tree = [{"type": "file", "path": name, "size": len(body), "oid": "0" * 40} for name, body in FILES.items()]
            if path.startswith("/api/datasets/lab/clips/tree/"):
                return self.answer(json.dumps(tree).encode(), Content_Type="application/json")
            if path.startswith("/api/datasets/lab/clips"):
                siblings = [{"rfilename": name} for name in FILES]
                info = {"_id": "1", "id": "lab/clips", "sha": COMMIT, "siblings": siblings}
                return self.answer(json.dumps(info).encode(), Content_Type="application/json")
            name = path.removeprefix(f"/datasets/lab/clips/resolve/{COMMIT}/")
            if name not in FILES:
                return self.send_error(404)
            if self.command == "GET":
                asked.append(name)
            etag = f'"{hashlib.sha1(FILES[name]).hexdigest()}"'
            self.answer(FILES[name], ETag=etag, X_Repo_Commit=COMMIT)

        do_HEAD = do_GET

        def log_message(self, *args):
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
    yield asked
    server.shutdown()


def test_the_choice_is_the_same_for_the_same_seed_whatever_the_order_of_the_files():
    files = list(FILES)
    assert choose_clips(files, 2, seed=1) == choose_clips(files[::-1], 2, seed=1)
    assert sorted(choose_clips(files, 2, seed=1).values()) == ["lunges"] * 2 + ["squats"] * 2
    assert len({tuple(choose_clips(files, 2, seed)) for seed in range(10)}) > 1


def test_chosen_clips_and_labels_come_once_and_the_manifest_last(hub, tmp_path):
    download_clips("lab/clips", "main", tmp_path, per_exercise=2, seed=0)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert len(manifest) == 4
    assert all((tmp_path / clip).read_bytes() == FILES[clip] for clip in manifest)
    assert sorted(hub) == sorted([*manifest, "fine_grained_labels.json"])
    hub.clear()
    download_clips("lab/clips", "main", tmp_path, per_exercise=2, seed=0)
    assert hub == []


def test_a_hub_that_cannot_be_reached_is_said_and_leaves_no_manifest(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"(?s)lab/clips.*dataset\.hub_repo"):
        download_clips("lab/clips", "main", tmp_path, per_exercise=2, seed=0)
    assert not (tmp_path / "manifest.json").exists()


def test_a_data_set_without_labels_is_refused(hub, tmp_path, monkeypatch):
    monkeypatch.delitem(FILES, "fine_grained_labels.json")
    with pytest.raises(InputError, match=r"holds no fine_grained_labels\.json"):
        download_clips("lab/clips", "main", tmp_path, per_exercise=2, seed=0)
