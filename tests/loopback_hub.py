"""A Hub on this computer: the answers of the real one that downloads and uploads need.

It serves every repository from a folder, and misbehaves on request. The real client talks to it in
processes of its own: it reads its settings when it is imported, and keeps errors and retries to
itself.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

ROOT = Path(__file__).parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}


class LoopbackHub(http.server.ThreadingHTTPServer):
    """Repositories, a log of requests, and faults to commit.

    Attributes:
        repos: `(kind, "owner/name")` to the folder that is served.
        requests: `"METHOD path"` of every request.
        faults: part of a path, what to do (a status, "gated", "entry" for a missing file, "drop",
            "truncate", "corrupt") and how many times.
        commit: the commit that every branch is at.
        variables: of Spaces, as they were set.
    """

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.repos: dict[tuple[str, str], Path] = {}
        self.requests: list[str] = []
        self.faults: list[list] = []
        self.variables: dict[str, str] = {}
        self.commit = COMMIT
        self.url = f"http://127.0.0.1:{self.server_port}"

    def fail(self, path: str, how: str, times: int = 10**9) -> None:
        self.faults.append([path, how, times])

    def fault(self, path: str, command: str) -> str | None:
        for fault in self.faults:
            harmless = command == "HEAD" and fault[1] in ("drop", "truncate", "corrupt")
            if fault[0] in path and fault[2] > 0 and not harmless:
                fault[2] -= 1
                return fault[1]
        return None

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the test


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.route()

    def do_GET(self):
        self.route()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.route(body)

    def route(self, body: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        self.how = self.server.fault(path, self.command)
        if self.how in ("401", "403", "404", "500", "gated", "entry"):
            return self.refuse(self.how)
        parts = path.strip("/").split("/")
        if parts[0] != "api":
            return self.serve_file(parts)
        if parts[1] == "validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if parts[1:3] == ["repos", "create"]:
            return self.create(json.loads(body))
        kind, repo_id, rest = KINDS.get(parts[1]), "/".join(parts[2:4]), parts[4:]
        folder = self.server.repos.get((kind, repo_id))
        if folder is None:
            return self.refuse("404")
        if rest[:1] == ["preupload"]:
            files = json.loads(body)["files"]
            answers = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            return self.answer({"files": answers})
        if rest[:1] == ["commit"]:
            return self.take_commit(folder, body, f"{self.server.url}/{repo_id}")
        if rest[:1] == ["variables"]:
            given = json.loads(body)
            self.server.variables[given["key"]] = given["value"]
            return self.answer({})
        if rest[:1] == ["tree"]:
            everything = "recursive=true" in urlsplit(self.path).query.lower()
            return self.answer(listing(folder, "/".join(rest[2:]), everything))
        if rest[:1] == ["paths-info"]:
            wanted = asked_paths(body)
            entries = listing(folder, "", False) + tree(folder)
            return self.answer([entry for entry in entries if entry["path"] in wanted])
        names = [{"rfilename": entry["path"]} for entry in tree(folder)]
        return self.answer({"id": repo_id, "sha": self.server.commit, "siblings": names})

    def serve_file(self, parts: list[str]) -> None:
        kind = KINDS.get(parts[0])
        parts = parts[1:] if kind else parts
        folder = self.server.repos.get((kind or "model", "/".join(parts[:2])))
        if folder is None or parts[2:3] != ["resolve"]:
            return self.refuse("404")
        path = folder / "/".join(parts[4:])
        if not path.is_file():
            return self.refuse("entry")
        return self.send_file(path.read_bytes())

    def send_file(self, data: bytes) -> None:
        """Sends a file, or a part of it, or something else of its size."""
        digest = hashlib.sha256(data).hexdigest()
        start = 0
        if self.headers.get("Range"):
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
            whole, data = len(data), data[start : end + 1]
        if self.how == "corrupt":
            data = bytes(byte ^ 255 for byte in data)
        self.send_response(206 if self.headers.get("Range") else 200)
        if self.headers.get("Range"):
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{whole}")
        short = data[: len(data) // 2] if self.how == "truncate" else data
        self.send_header("Content-Length", str(len(short)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.how == "drop":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(short)

    def create(self, asked: dict) -> None:
        kind = asked.get("type") or "model"
        repo_id = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        if "/" not in repo_id:
            repo_id = f"someone/{repo_id}"
        folder = self.server.root / kind / repo_id
        folder.mkdir(parents=True, exist_ok=True)
        self.server.repos[kind, repo_id] = folder
        self.answer({"url": f"{self.server.url}/{repo_id}", "name": repo_id, "id": "1"})

    def take_commit(self, folder: Path, body: bytes, url: str) -> None:
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                path = folder / entry["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(entry["value"]["content"]))
            elif entry["key"] == "deletedFile":
                (folder / entry["value"]["path"]).unlink()
        commit = self.server.commit
        self.answer({"commitUrl": f"{url}/commit/{commit}", "commitOid": commit, "success": True})

    def refuse(self, how: str) -> None:
        status = {"gated": 403, "entry": 404}.get(how) or int(how)
        codes = {"gated": "GatedRepo", "entry": "EntryNotFound", "404": "RepoNotFound"}
        self.send_response(status)
        if how in codes:
            self.send_header("X-Error-Code", codes[how])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, value) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def listing(folder: Path, under: str, everything: bool) -> list[dict]:
    """Files and folders in a folder of a repository, or below it."""
    start = f"{under}/" if under else ""
    inside = [entry for entry in tree(folder) if entry["path"].startswith(start)]
    below = {entry["path"][len(start) :].split("/")[0] for entry in inside}
    folders = [start + name for name in sorted(below) if (folder / (start + name)).is_dir()]
    found = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
    return found + [e for e in inside if everything or "/" not in e["path"][len(start) :]]


def tree(folder: Path) -> list[dict]:
    """What the Hub says of a folder's files."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        {
            "type": "file",
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]


def asked_paths(body: bytes) -> set[str]:
    """Paths of a request, which the client sends as JSON or as a form."""
    if body.startswith(b"{"):
        paths = json.loads(body)["paths"]
    else:
        paths = parse_qs(body.decode()).get("paths", [])
    return set(paths if isinstance(paths, list) else [paths])


@contextmanager
def running(root: Path) -> Iterator[LoopbackHub]:
    server = LoopbackHub(root)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


CLIENT = """
import contextlib, io, json, sys
from rissole.config import RissoleError
from rissole.storage.resolve import resolve

def found(asked):
    try:
        return str(resolve(**asked))
    except RissoleError as error:
        return f"refused: {error}"

def ran(line):
    from rissole.cli import main
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line)
    return {"returncode": code, "stdout": out.getvalue(), "stderr": err.getvalue()}

for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(ran(asked) if isinstance(asked, list) else found(asked)), flush=True)
"""


def environment(cache: Path, endpoint: str, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "HF_HUB_CACHE": str(cache),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_loopback",
        "NO_PROXY": "*",
        **more,
    }


class Client:
    """A process that resolves names, and runs commands, for as long as its `with` block lasts."""

    def __init__(self, cache: Path, endpoint: str, **more: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            cwd=ROOT,
            env=environment(cache, endpoint, **more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()

    def resolve(self, name: str, **options) -> str:
        """Where what has a name lies, or why it was refused."""
        return self._answer({"name_or_path": name, **options})

    def run(self, *arguments: object) -> SimpleNamespace:
        """Exit code and output of a command: importing all it needs takes longer than most."""
        return SimpleNamespace(**self._answer([str(argument) for argument in arguments]))

    def _answer(self, asked: dict | list):
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())
