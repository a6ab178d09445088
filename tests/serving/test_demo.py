"""The page to try clips on: in a browser, and against requests that it refuses."""

import http.client
import json
import tempfile
from pathlib import Path
from threading import Thread

import pytest

from mobilevideogpt.files import write_json
from mobilevideogpt.serving.demo import serving
from mobilevideogpt.serving.finetuned import find_finetuned
from tests.serving.browser import CHROMIUM, browser


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """The folder of temporary files, which is to be empty in the end."""
    folder, before = tmp_path_factory.mktemp("temporary"), tempfile.tempdir
    tempfile.tempdir = str(folder)
    yield folder
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def server(made, pipeline, temporary):
    turns = [{"from": "human", "value": "<video>\nGo."}, {"from": "gpt", "value": "squats - go deeper"}]
    clip = {"video": "dataset/squats/2.mp4", "exercise": "squats", "split": "test", "conversations": turns}
    write_json([clip], made / "results/features/test.json")
    assert find_finetuned(made / "results/tiny") == pipeline.finetuned
    with serving(pipeline, max_megabytes=1, max_seconds=2) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def ask(server):
    """Send a request, and return the status and the lines of the answer."""

    def send(method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=300)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"X-Demo": "1", **names})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace"), answer

    return send


def test_a_clip_is_answered_about_as_the_pipeline_does_and_not_kept(ask, pipeline, made, temporary):
    content = (made / "dataset/squats/1.mp4").read_bytes()
    status, text, _ = ask("POST", "/answer?prompt=Go.", content)
    events = [json.loads(line) for line in text.splitlines()]
    answers = {name: "".join(e["text"] for e in events if e.get("source") == name) for name in ("finetuned", "base")}
    expected = pipeline(made / "dataset/squats/1.mp4", "Go.", max_new_tokens=256)
    assert status == 200 and answers["finetuned"].strip() == expected != answers["base"].strip()
    assert len(events[0]["pictures"]) == 16 and sum(chosen for _, chosen in events[0]["pictures"]) == 8
    assert not list(temporary.glob("demo-*"))


@pytest.mark.parametrize(
    ("body", "path", "error"),
    [
        (b"no video at all", "/answer?prompt=Go.", "this file is not a video; choose an MP4"),
        ("long", "/answer?prompt=Go.", r"the clip is 3 seconds long; cut it to at most 2 seconds"),
        ("short", "/answer", "the question names the exercise: fill it in"),
        ("short", "/answer?prompt={x}", "unknown placeholder {x}"),
        (b"", "/answer?test=7", "there is no such test clip"),
    ],
)
def test_what_cannot_be_answered_is_said(body, path, error, ask, draw_clip, tmp_path, temporary):
    if isinstance(body, str):
        draw_clip(tmp_path / "clip.mp4", frames=30 if body == "long" else 15)
        body = (tmp_path / "clip.mp4").read_bytes()
    _, text, _ = ask("POST", path, body)
    assert error in json.loads(text.splitlines()[-1])["error"]
    assert "/" not in json.loads(text.splitlines()[-1])["error"].partition(";")[0], "a path of the server is told"
    assert not list(temporary.glob("demo-*"))


def test_requests_of_other_sites_and_too_large_ones_are_refused(ask, server):
    assert ask("GET", "/", Host="evil.example:80")[0] == 403
    assert ask("POST", "/answer?prompt=Go.", b"x", X_Demo="")[0] == 403
    assert ask("POST", "/answer?prompt=Go.", b"", Content_Length="0")[0] == 413
    assert ask("POST", "/answer?prompt=Go.", b"x", Content_Length="1000001")[0] == 413
    assert ask("GET", "/clip/../../train.json")[0] == 404
    status, page, answer = ask("GET", "/")
    assert status == 200 and "connect-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "dataset/squats/2.mp4" in page and "http://" not in page and "https://" not in page
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_answers_in_a_browser(server, made, tmp_path):
    with browser(tmp_path / "profile") as page:
        page.open(f"http://127.0.0.1:{server.server_port}/")
        page.value("document.getElementById('prompt').value = 'Go.'")
        text = "document.getElementById({!r}).textContent".format
        page.value("document.getElementById('go').click()")
        page.wait_for(f"{text('error')} === 'Choose a clip first.'")
        page.choose_file("#file", made / "dataset/squats/1.mp4")
        page.value("document.getElementById('go').click()")
        page.wait_for(f"{text('finetuned')} && {text('base')} && !document.getElementById('go').disabled")
        assert page.value("document.querySelectorAll('#pictures img').length") == 16
        assert page.value("document.querySelectorAll('#pictures img.chosen').length") == 8
        assert page.value("document.getElementById('error').hidden") is True
        note = tmp_path / "note.mp4"
        note.write_text("no video")
        page.choose_file("#file", Path(note))
        page.value("document.getElementById('go').click()")
        page.wait_for(f"{text('error')}.startsWith('this file is not a video')")
        test = "document.getElementById('test')"
        page.value(f"{test}.value = '0'; {test}.dispatchEvent(new Event('change'))")
        page.value("document.getElementById('go').click()")
        page.wait_for(f"{text('reference')}.includes('go deeper') && !document.getElementById('go').disabled")
        assert page.value("document.querySelector('#player video').readyState !== undefined")
        assert "display:" not in page.value("document.body.innerText"), "the style is shown as text"
        for width in (1280, 390):
            page.open(f"http://127.0.0.1:{server.server_port}/", width)
            assert page.value("document.documentElement.scrollWidth <= innerWidth"), f"wider than {width} pixels"
