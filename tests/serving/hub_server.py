"""A local server with the endpoints of the Hugging Face hub that an upload and a download of a model use.

It keeps repositories in memory. Large files (by its own choice: safetensors and bin) go the way of Git LFS.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_a_test"
LARGE = (".safetensors", ".bin")


@dataclass
class Hub:
    """What the server has: repositories, objects of LFS, and what was asked of it."""

    url: str = ""
    repositories: dict[str, dict] = field(default_factory=dict)  # name > private, files (name > bytes)
    objects: dict[str, bytes] = field(default_factory=dict)  # SHA-256 > bytes
    uploaded: list[str] = field(default_factory=list)  # SHA-256 of objects that were sent, each time
    refuse_uploads: int = 0  # so many of the next large files are refused


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, value: object = None, status: int = 200, headers: dict | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps({} if value is None else value).encode()
        self.send_response(status)
        known = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        for name, text in (known | (headers or {})).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _may(self, repository: str) -> bool:
        """Whether the token is right, or the repository is public and is read."""
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        found = self.hub.repositories.get(repository)
        if found and not found["private"] and self.command in ("GET", "HEAD"):
            return True
        self._send({"error": "who are you?"}, 401, {"X-Error-Code": "RepoNotFound"})
        return False

    def do_POST(self):
        path, body, hub = urlsplit(self.path).path, self._body(), self.hub
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if self._may(name):
                if name in hub.repositories:
                    return self._send({"error": "exists", "url": f"{hub.url}/{name}"}, 409)
                private = asked.get("private", asked.get("visibility") == "private")
                hub.repositories[name] = {"private": bool(private), "files": {}}
                self._send({"url": f"{hub.url}/{name}", "name": name})
            return None
        if path == "/api/validate-yaml":
            return self._send({"errors": [], "warnings": []})
        if path.endswith(".git/info/lfs/objects/batch"):
            asked = json.loads(body)
            objects = []
            for entry in asked["objects"]:
                found = {"oid": entry["oid"], "size": entry["size"]}
                if entry["oid"] not in hub.objects:
                    found["actions"] = {"upload": {"href": f"{hub.url}/objects/{entry['oid']}", "header": {}}}
                objects.append(found)
            return self._send({"transfer": "basic", "objects": objects})
        parts = path.strip("/").split("/")  # api models owner name preupload|commit revision
        if parts[:2] == ["api", "models"] and len(parts) == 6 and self._may(repository := "/".join(parts[2:4])):
            if parts[4] == "preupload":
                files = [
                    {
                        "path": entry["path"],
                        "uploadMode": "lfs" if entry["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                    }
                    for entry in json.loads(body)["files"]
                ]
                return self._send({"files": files, "commitOid": "1" * 40})
            if parts[4] == "commit":
                files = hub.repositories[repository]["files"]
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        files[value["path"]] = hub.objects[value["oid"]]
                url = f"{hub.url}/{repository}/commit/{'2' * 40}"
                return self._send({"success": True, "commitOid": "2" * 40, "commitUrl": url, "hookOutput": ""})
        return self._unknown()

    def do_PUT(self):
        digest, body = self.path.rpartition("/")[2], self._body()
        if self.hub.refuse_uploads:
            self.hub.refuse_uploads -= 1
            return self._send({"error": "not now"}, 400)
        assert hashlib.sha256(body).hexdigest() == digest
        self.hub.objects[digest] = body
        self.hub.uploaded.append(digest)
        return self._send()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        parts = path.strip("/").split("/")
        if path == "/api/whoami-v2":
            return self._send({"name": "me", "type": "user", "orgs": [], "auth": {"type": "access_token"}})
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            repository = "/".join(parts[2:4])
            if not self._may(repository):
                return None
            if repository not in self.hub.repositories:
                return self._send({"error": "no such repository"}, 404, {"X-Error-Code": "RepoNotFound"})
            files = self.hub.repositories[repository]["files"]
            if parts[4:5] == ["tree"]:
                return self._send([self._entry(name, content) for name, content in files.items()])
            names = [{"rfilename": name} for name in files]
            return self._send({"id": repository, "modelId": repository, "sha": "2" * 40, "siblings": names, "tags": []})
        if len(parts) >= 5 and parts[2] == "resolve":
            repository = "/".join(parts[:2])
            if not self._may(repository):
                return None
            content = self.hub.repositories.get(repository, {"files": {}})["files"].get("/".join(parts[4:]))
            if content is None:
                return self._send({"error": "no such file"}, 404, {"X-Error-Code": "EntryNotFound"})
            digest = hashlib.sha256(content).hexdigest()
            return self._send(content, headers={"ETag": f'"{digest}"', "X-Repo-Commit": "2" * 40})
        return self._unknown()

    do_HEAD = do_GET

    @staticmethod
    def _entry(name: str, content: bytes) -> dict:
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _unknown(self) -> None:
        self._send({"error": "unknown"}, 404)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve a hub of its own until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
