"""Clips from the hub, with the real client against a server on this machine."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import huggingface_hub
import pytest
from huggingface_hub import constants

from mobilevideogpt.errors import InputError
from mobilevideogpt.hub.clips import choose_clips, download_clips

COMMIT = "c" * 40
LABELS = "fine_grained_labels.json"
CLIPS = {f"{name}/{n:08}.mp4": f"{name} {n} ".encode() * 2000 for name in ("squats", "lunges [L]") for n in range(4)}


@dataclass
class Hub:
    """A hub with one data set, ``lab/clips``, and how it behaves."""

    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)  # files, once for each GET
    refusals: dict[str, list[tuple[int, dict]]] = field(default_factory=dict)  # by "GET <end of path>": status, headers
    breaks: dict[str, int] = field(default_factory=dict)  # how many downloads of a file stop in the middle
    damage: dict[str, int] = field(default_factory=dict)  # how many downloads of a file have wrong bytes
    waits: list[float] = field(default_factory=list)  # seconds that the client slept

    def tree(self) -> list[dict]:
        def entry(name: str, body: bytes) -> dict:
            blob = {"type": "file", "path": name, "size": len(body)}
            if name.endswith(".mp4"):
                lfs = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
                return blob | {"oid": "0" * 40, "lfs": lfs}
            return blob | {"oid": hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()}

        return [entry(*item) for item in self.files.items()]


@pytest.fixture
def hub(monkeypatch):
    hub = Hub(CLIPS | {LABELS: b"[]", "README.md": b"clips", "squats/notes.txt": b""})

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bytes, status: int = 200, sent: int | None = None, **headers):
            self.send_response(status)
            for name, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[:sent])

        def do_GET(self):
            path = unquote(urlparse(self.path).path)
            for what, refusals in hub.refusals.items():
                method, _, end = what.partition(" ")
                if refusals and self.command == method and path.endswith(end):
                    status, headers = refusals.pop(0)
                    return self.answer(b"", status, **headers)
            if path.startswith("/api/datasets/lab/clips/tree/"):
                return self.answer(json.dumps(hub.tree()).encode(), Content_Type="application/json")
            if path.startswith("/api/datasets/lab/clips"):
                info = {"_id": "1", "id": "lab/clips", "sha": COMMIT}
                return self.answer(json.dumps(info).encode(), Content_Type="application/json")
            name = path.removeprefix(f"/datasets/lab/clips/resolve/{COMMIT}/")
            if name not in hub.files:
                return self.answer(b"", 404, X_Error_Code="EntryNotFound")
            body, headers = hub.files[name], {"X_Repo_Commit": COMMIT}
            headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()}"'
            if self.command == "HEAD":
                return self.answer(body, **headers)
            hub.asked.append(name)
            if hub.damage.get(name, 0):
                hub.damage[name] -= 1
                return self.answer(body[::-1], **headers)
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            if start:
                headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            breaks_off = hub.breaks.get(name, 0) > 0
            hub.breaks[name] = hub.breaks.get(name, 0) - breaks_off
            half = (len(body) - start) // 2 if breaks_off else None
            self.answer(body[start:], 206 if start else 200, sent=half, **headers)

        do_HEAD = do_GET

        def log_message(self, *args):
            """Print nothing."""

    monkeypatch.setattr(ThreadingHTTPServer, "request_queue_size", 64)  # otherwise some of many calls wait for a second
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
    monkeypatch.setattr(time, "sleep", hub.waits.append)
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def download(hub, tmp_path):
    """Download two clips an exercise; returns the manifest after a look at every file."""

    def run(**changes) -> dict[str, str]:
        settings = {"repo": "lab/clips", "revision": "main", "per_exercise": 2, "seed": 0} | changes
        download_clips(folder=tmp_path, **settings)
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        for clip in manifest:
            assert (tmp_path / clip).read_bytes() == hub.files[clip]
        return manifest

    return run


def test_the_choice_is_the_same_for_the_same_seed_whatever_the_order_of_the_files():
    files = [*CLIPS, LABELS, "top.mp4", "squats/9.txt"]
    assert choose_clips(files, 2, seed=1) == choose_clips(files[::-1], 2, seed=1)
    assert sorted(choose_clips(files, 2, seed=1).values()) == ["lunges [L]"] * 2 + ["squats"] * 2
    assert len({tuple(choose_clips(files, 2, seed)) for seed in range(10)}) > 1
    assert choose_clips(files, 9, seed=1).keys() == CLIPS.keys()


def test_names_that_no_rule_can_use_are_skipped_and_other_containers_accepted(caplog):
    files = ["squats/{1}.mp4", "a/../b/1.mp4", "a\\b/1.mp4", ".cache/x/1.mp4", "part 1/squats/2.MOV", "squats/3.webm"]
    assert choose_clips(files, 9, seed=1) == {"part 1/squats/2.MOV": "squats", "squats/3.webm": "squats"}
    assert "'squats/{1}.mp4'" in caplog.text


def test_chosen_clips_and_labels_come_once_and_the_manifest_last(hub, download, tmp_path):
    manifest = download()
    assert sorted(manifest.values()) == ["lunges [L]"] * 2 + ["squats"] * 2
    assert sorted(hub.asked) == sorted([*manifest, LABELS])
    hub.asked.clear()
    assert download() == manifest
    assert hub.asked == []
    newest = max(tmp_path.glob("**/*.*"), key=lambda file: file.stat().st_mtime_ns)
    assert newest.name == "manifest.json"


def test_an_interrupted_download_resumes_where_it_stopped(hub, download, tmp_path):
    first, *_, last = choose_clips(CLIPS, 2, seed=0)
    hub.refusals[f"GET {last}"] = [(404, {"X_Error_Code": "EntryNotFound"})]
    with pytest.raises(InputError, match="answers 404"):
        download()
    assert not (tmp_path / "manifest.json").exists()
    assert (tmp_path / first).read_bytes() == CLIPS[first]
    hub.asked.clear()
    assert last in download()
    assert first not in hub.asked


@pytest.mark.parametrize(
    "what", ["GET /revision/main", f"GET /tree/{COMMIT}", f"GET {LABELS}", "GET 00000001.mp4", "HEAD 00000001.mp4"]
)
@pytest.mark.parametrize(("headers", "seconds"), [({"Retry_After": "70"}, (70, 71)), ({}, (1, 8))])
def test_the_download_waits_where_the_hub_limits_its_rate(hub, download, what, headers, seconds):
    hub.refusals[what] = [(429, headers)] * 3
    assert len(download(per_exercise=4)) == 8
    assert seconds[0] <= max(hub.waits) <= seconds[1]
    assert hub.refusals[what] == []


def test_a_rate_limit_may_contain_a_date(hub, download):
    until = datetime.now(UTC) + timedelta(hours=1)
    hub.refusals["GET /revision/main"] = [(429, {"Retry_After": format_datetime(until, usegmt=True)})]
    download()
    assert 3500 <= max(hub.waits) <= 3600


def test_a_transient_server_error_is_retried_and_a_lasting_one_is_reported(hub, download):
    hub.refusals[f"GET {LABELS}"] = [(503, {})] * 3
    download()
    hub.refusals["GET /revision/main"] = [(500, {})] * 99
    with pytest.raises(InputError, match=r"lab/clips \(revision main\): the hub answers 500; try again later"):
        download()


def test_an_interrupted_file_resumes_at_the_byte_where_it_stopped(hub, download):
    clip = next(iter(choose_clips(CLIPS, 2, seed=0)))
    hub.breaks[clip] = 3
    download()
    assert hub.asked.count(clip) == 4


def test_a_file_that_arrives_damaged_is_fetched_again(hub, download, tmp_path):
    clip = next(iter(choose_clips(CLIPS, 2, seed=0)))
    hub.damage = {clip: 1, LABELS: 1}
    hub.files[LABELS] = b"[1]"
    download()
    assert (hub.asked.count(clip), hub.asked.count(LABELS)) == (2, 2)
    (tmp_path / clip).write_bytes(CLIPS[clip][::-1])
    download()
    hub.damage = {clip: 9}
    (tmp_path / clip).unlink()
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"arrived damaged twice.* run the same command"):
        download()
    assert not (tmp_path / clip).exists() and not (tmp_path / "manifest.json").exists()


def test_an_unreachable_hub_is_reported_and_leaves_no_manifest(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"lab/clips \(revision main\): cannot reach the hub .* the same command"):
        download_clips("lab/clips", "main", tmp_path, per_exercise=2, seed=0)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "hf auth login"), (403, "ask for access"), (404, "check the name")]
)
def test_a_refusal_is_reported_at_once_with_the_remedy(hub, download, status, remedy):
    hub.refusals["GET /revision/main"] = [(status, {})] * 9
    with pytest.raises(InputError, match=rf"the hub answers {status}; .*{remedy}"):
        download()
    assert hub.waits == []


def test_answers_that_the_data_set_lacks_may_be_in_the_folder(hub, download, tmp_path):
    with pytest.raises(InputError, match=r"no feedbacks\.json or feedbacks_short_clips\.json; put one into"):
        download(source="feedbacks")
    (tmp_path / "feedbacks.json").write_text("[]")
    download(source="feedbacks")
    hub.files |= {"questions.json": b"[]", "fine_grained_labels_with_worker_ids.json": b"[]"}
    download(source="questions")
    assert (tmp_path / "questions.json").exists() and (tmp_path / "fine_grained_labels_with_worker_ids.json").exists()


def test_a_data_set_without_clips_is_refused(hub, download):
    hub.files = {LABELS: b"[]"}
    with pytest.raises(InputError, match=r"contains no <exercise>/<clip>\.mp4"):
        download()
