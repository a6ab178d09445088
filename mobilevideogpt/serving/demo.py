"""A page on this machine to try clips on: base and fine-tuned model side by side, with the frames that they receive.

The server is that of the standard library. It answers one clip at a time, keeps no clip, and serves this machine alone
unless asked.
"""

import json
import logging
import math
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loky.process_executor import TerminatedWorkerError

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.segments import file_of
from mobilevideogpt.serving.pipeline import Pipeline, load
from mobilevideogpt.serving.questions import Prompts
from mobilevideogpt.serving.reading import Frames, read_sent_file
from mobilevideogpt.serving.templates import template
from mobilevideogpt.video.decoding_pool import DecodingPool

log = logging.getLogger(__name__)
READ_SECONDS = 60  # to decode a clip
SEND_SECONDS = 60  # without a byte from the browser
WAITING = 4  # clips at a time, one of which is answered about
LONGEST_ANSWER = 256  # tokens
CHUNK = 1 << 16
LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}
POLICY = (
    "default-src 'none'; img-src data:; media-src 'self' blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm"}


class Demo:
    """What the page needs, apart from HTTP.

    Args:
        pipeline: The model.
        max_megabytes: Of a clip that is sent.
        max_seconds: Length of a clip.
    """

    def __init__(self, pipeline: Pipeline, max_megabytes: int, max_seconds: float):
        self.pipeline, self.max_megabytes, self.max_seconds = pipeline, max_megabytes, max_seconds
        self.tests = _test_clips(pipeline)
        self.places = BoundedSemaphore(WAITING)
        self._answering, self._reading = Lock(), Lock()
        self._reader = DecodingPool(1)
        with pipeline.as_base() as self.has_base:
            pass

    def close(self) -> None:
        """End the process that decodes."""
        self._reader.shutdown(kill_workers=True)

    def page(self, nonce: str) -> str:
        """Return the page."""
        finetuned = self.pipeline.finetuned
        prompt = finetuned.prompt or ""
        return template("demo.html.j2").render(
            name=finetuned.name,
            nonce=nonce,
            is_toy=finetuned.is_toy,
            clips=self.tests,
            needs_exercise="{exercise}" in prompt,
            exercises=finetuned.exercises,
            prompt=prompt,
            has_base=self.has_base,
            max_megabytes=self.max_megabytes,
            max_seconds=self.max_seconds,
        )

    def answer(self, clip: str, prompt: str, exercise: str, reference: str | None) -> Iterator[dict]:
        """Yield what the page shows about a clip, as it comes.

        Args:
            clip: The file, or a segment of one.
            prompt: The question; ``{exercise}`` in it is filled in.
            exercise: Name of the exercise; may be empty.
            reference: The answer of the labels, for a clip of the test split.

        Raises:
            InputError: If the clip is not a video or too long, or the exercise is needed and not known.
        """
        finetuned = self.pipeline.finetuned
        known = Prompts(prompt or finetuned.prompt or "", finetuned.data_root, finetuned.exercises)
        if "{exercise}" in known.template and not exercise and reference is None:
            raise InputError("the question names the exercise: fill it in")
        question = known.of(clip, exercise)
        # A clip of the test split is the user's own, however long.
        frames = self._read(clip, math.inf if reference is not None else self.max_seconds)
        with self._answering:
            [seen] = self.pipeline.see([frames], with_pictures=True)
            yield {"pictures": [[picture.src, picture.chosen] for picture in seen.pictures]}
            for text in self.pipeline.stream(seen, question, LONGEST_ANSWER):
                yield {"source": "finetuned", "text": text}
            with self.pipeline.as_base() as possible:
                for text in self.pipeline.stream(seen, question, LONGEST_ANSWER) if possible else ():
                    yield {"source": "base", "text": text}
        if reference:
            yield {"reference": reference}

    def _read(self, clip: str, max_seconds: float) -> Frames:
        """Read frames in a process that is replaced if it hangs or dies: the file may be anything."""
        with self._reading:
            try:
                future = self._reader.submit(read_sent_file, clip, self.pipeline.bounds, max_seconds)
                return future.result(READ_SECONDS)
            except (FutureTimeout, TerminatedWorkerError) as error:
                log.info("%s: %r", clip, error)
                self.close()
                self._reader = DecodingPool(1)
                raise InputError("the clip cannot be decoded in reasonable time or memory; choose another") from None


def _test_clips(pipeline: Pipeline) -> list[dict]:
    """Return the clips of the run's test split that are there: ``video``, ``exercise``, ``prompt``, ``reference``."""
    run = pipeline.finetuned.run
    path = run and run.parent / "features" / "test.json"
    if run is None or path is None or not path.is_file():
        return []
    results = run.parent if run.parent.name == "results" else run.parent.parent
    samples = read_json(path, shape=[{"video": str, "exercise": str, "conversations": list}])
    found = []
    for sample in samples:
        path, reference = results.parent / sample["video"], prompt_and_response(sample)[1]
        if (file := Path(file_of(path))).is_file():
            found.append({**sample, "file": file, "path": str(path), "reference": reference})
    return found


def serve(run: str, *, host: str, port: int, max_megabytes: int, max_seconds: float) -> None:
    """Load a fine-tuned model and serve the page until interrupted.

    Args:
        run: See `load`.
        host: Address to listen at.
        port: Port; 0 for one that is free.
        max_megabytes: Of a clip that is sent.
        max_seconds: Length of a clip.

    Raises:
        InputError: If the model cannot be loaded, or the port is taken.
    """
    with serving(load(run), host, port, max_megabytes, max_seconds) as server:
        print(f"Open http://{_address(host)}:{server.server_port}/ in a browser; Ctrl-C ends it", flush=True)
        if host not in {"127.0.0.1", "localhost", "::1"}:
            log.warning("everybody who reaches %s can use this page", host)
        server.serve_forever()


def _address(host: str) -> str:
    return "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host


@contextmanager
def serving(
    pipeline: Pipeline, host: str = "127.0.0.1", port: int = 0, max_megabytes: int = 64, max_seconds: float = 120
) -> Iterator[ThreadingHTTPServer]:
    """Yield a server that listens; its ``serve_forever`` is the caller's to call."""
    demo = Demo(pipeline, max_megabytes, max_seconds)
    handler = type("Handler", (_Handler,), {"demo": demo, "names": LOCAL_NAMES | {_address(host)}, "host": host})
    try:
        server = ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        demo.close()
        raise InputError(f"{host}:{port}: cannot listen there ({error.strerror}); choose another --port") from None
    server.daemon_threads = True
    try:
        yield server
    finally:
        server.server_close()
        demo.close()


class _Handler(BaseHTTPRequestHandler):
    """Serves the page, the test clips and the answers."""

    demo: Demo
    names: set[str]
    host: str
    timeout = SEND_SECONDS
    server_version, sys_version = "mobilevideogpt", ""

    def do_GET(self):
        """Serve the page or a test clip."""
        path = urlsplit(self.path).path
        if not self._is_asked_by_name():
            return
        if path == "/":
            nonce = secrets.token_urlsafe(16)
            body, policy = self.demo.page(nonce).encode(), POLICY.format(nonce=nonce)
            self._send(HTTPStatus.OK, body, "text/html; charset=utf-8", {"Content-Security-Policy": policy})
        elif path.startswith("/clip/") and (clip := self._test_clip(path.removeprefix("/clip/"))):
            self._send(HTTPStatus.OK, clip["file"].read_bytes(), TYPES.get(clip["file"].suffix.lower(), "video/mp4"))
        else:
            self._send(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")

    def do_POST(self):
        """Answer about the clip that is sent, or about one of the test split: a JSON object a line, as it comes."""
        url = urlsplit(self.path)
        # Another site's script cannot set this header without a permission that is never given.
        if not self._is_asked_by_name() or url.path != "/answer" or self.headers.get("X-Demo") != "1":
            return self._send(HTTPStatus.FORBIDDEN, b"not allowed\n", "text/plain")
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if not self.demo.places.acquire(blocking=False):
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "several clips are waiting already; try again later")
        try:
            with self._clip(query) as (clip, test):
                if clip is not None:
                    self._answer(clip, query, test)
        finally:
            self.demo.places.release()

    @contextmanager
    def _clip(self, query: Mapping[str, str]) -> Iterator[tuple[str | None, Mapping | None]]:
        """Yield the clip that is asked about, and its sample; None once the request has been refused."""
        if "test" in query:
            test = self._test_clip(query["test"])
            if test is None:
                self._refuse(HTTPStatus.NOT_FOUND, "there is no such test clip")
            yield (test["path"], test) if test else (None, None)
            return
        length, most = self.headers.get("Content-Length", ""), self.demo.max_megabytes * 1_000_000
        if not length.isdecimal() or not 0 < int(length) <= most:
            self.close_connection = True
            self._refuse(HTTPStatus(413), f"the clip is empty or has more than {self.demo.max_megabytes} MB")
            yield None, None
            return
        with tempfile.TemporaryDirectory(prefix="demo-") as folder:
            path, left = Path(folder, "clip"), int(length)
            with open(path, "wb") as file:
                while left and (part := self.rfile.read(min(CHUNK, left))):
                    file.write(part)
                    left -= len(part)
            yield (None, None) if left else (str(path), None)

    def _answer(self, clip: str, query: Mapping[str, str], test: Mapping | None) -> None:
        exercise = query.get("exercise") or (test["exercise"] if test else "")
        self._start(HTTPStatus.OK, "application/x-ndjson")
        try:
            for event in self.demo.answer(clip, query.get("prompt", ""), exercise, test["reference"] if test else None):
                self._line(event)
        except InputError as error:
            self._line({"error": str(error).removeprefix(f"{clip}: ")})
        except (BrokenPipeError, ConnectionResetError):  # the browser has gone
            pass
        except Exception:
            log.exception("the answer failed")
            self._line({"error": "the program failed; its terminal says why"})

    def _test_clip(self, number: str) -> dict[str, Any] | None:
        tests: Sequence[dict] = self.demo.tests
        return tests[int(number)] if number.isdecimal() and int(number) < len(tests) else None

    def _is_asked_by_name(self) -> bool:
        """Whether the request names this machine: a foreign name that leads here is a trick of another site."""
        if self.host in {"0.0.0.0", "::"}:
            return True
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if name in self.names:
            return True
        self._send(HTTPStatus.FORBIDDEN, b"open the page by the address that was printed\n", "text/plain")
        return False

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._send(status, json.dumps({"error": text}).encode() + b"\n", "application/x-ndjson")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self._start(status, kind, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def _start(self, status: HTTPStatus, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def _line(self, event: Mapping) -> None:
        self.wfile.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")
        self.wfile.flush()

    def log_message(self, format, *args):
        """Log a request where the level asks for it; nothing is printed."""
        log.debug(format, *args)
