"""A Hub of our own: a small server in a thread that speaks as much of the Hub's API as its client uses.

Repositories live in memory. Uploads go through preupload, LFS and commit, downloads through HEAD and GET with the
headers that the client's cache relies on; large files lie on another host (`localhost` instead of `127.0.0.1`), as on
the real Hub.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import multiprocessing
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_ours"


@dataclass
class Repository:
    """Branches and commits of a repository; a commit is the whole content."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, content: dict[str, bytes], message: str) -> str:
        sha = hashlib.sha1(f"{len(self.commits)}{branch}{message}".encode()).hexdigest()
        self.commits[sha] = content
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def find(self, revision: str) -> str | None:
        """The commit that a branch or a commit's own name means."""
        return self.branches.get(revision, revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[revision]]


class RefusedError(Exception):
    """Ends a request with an error as the Hub gives it."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        self.status, self.code, self.message, self.headers = status, code, message, headers


class Hub:
    """The server's state, and its life."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens = {TOKEN: "user"}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, bool]] = []
        """Method, path, and whether a token came with it."""
        self.broken: set[str] = set()
        """Beginnings of paths to answer with an internal error."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("OurHandler", (Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.elsewhere = f"http://localhost:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo_id: str, folder: Path, branch: str = "main", **attributes: Any) -> str:
        """Put a folder's files into a repository without the client's help."""
        repository = self.repositories.setdefault(repo_id, Repository(**attributes))
        content = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return repository.commit(branch, content, "Add")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        self.where, self.query = unquote(parts.path), parse_qs(parts.query)
        self.body = self.read_body()
        self.hub.requests.append((self.command, self.where, "authorization" in self.headers))
        try:
            if any(self.where.startswith(beginning) for beginning in self.hub.broken):
                raise RefusedError(501, message="broken on purpose")
            self.user = self.authenticate()
            for method, pattern, answer in ROUTES:
                if self.command in method and (found := re.fullmatch(pattern, self.where)):
                    answer(self, **found.groupdict())
                    return
            raise RefusedError(404, message=f"no such address: {self.command} {self.where}")
        except RefusedError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": error.message, **error.headers}
            self.answer({"error": error.message}, error.status, {k: v for k, v in headers.items() if v})

    do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815

    def read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # --- who asks, and for what ---------------------------------------------------------------------------------------

    def authenticate(self) -> str | None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise RefusedError(401, message="Invalid credentials in Authorization header")
        return self.hub.tokens.get(token)

    def repository(self, repo: str) -> Repository:
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and self.user != repo.split("/")[0]):
            raise RefusedError(404 if self.user else 401, "RepoNotFound", "Repository not found")
        return found

    def for_writing(self, repo: str) -> Repository:
        found = self.repository(repo)
        if self.user != repo.split("/")[0]:
            raise RefusedError(403 if self.user else 401, message="You may not write here")
        return found

    def commit_of(self, repository: Repository, revision: str) -> str:
        if (sha := repository.find(revision)) is None:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    # --- the API ------------------------------------------------------------------------------------------------------

    def who_am_i(self) -> None:
        if self.user is None:
            raise RefusedError(401, message="Invalid username or password.")
        self.answer({"name": self.user, "type": "user", "orgs": [], "auth": {}})

    def create_repository(self) -> None:
        values = json.loads(self.body)
        if self.user is None:
            raise RefusedError(401, message="Invalid username or password.")
        owner = values.get("organization") or self.user
        if owner != self.user:
            raise RefusedError(403, message="You don't have the rights to create a model under this namespace")
        repo = f"{owner}/{values['name']}"
        address = {"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo}
        if repo in self.hub.repositories:
            self.answer({"error": "You already created this model repo", **address}, 409)
            return
        repository = Repository(private=values.get("visibility") == "private" or bool(values.get("private")))
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self.hub.repositories[repo] = repository
        self.answer(address)

    def information(self, repo: str, revision: str | None = None) -> None:
        repository = self.repository(repo)
        sha = self.commit_of(repository, revision or "main")
        siblings = [{"rfilename": name} for name in repository.commits[sha]]
        self.answer({"id": repo, "modelId": repo, "sha": sha, "private": repository.private, "siblings": siblings})

    def tree(self, repo: str, revision: str, folder: str = "") -> None:
        repository = self.repository(repo)
        content = repository.commits[self.commit_of(repository, revision)]
        below = [name for name in content if name.startswith(f"{folder}/" if folder else "")]
        if folder and not below:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        start = len(folder) + 1 if folder else 0
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            inside = {name[start:].partition("/")[0] for name in below if "/" in name[start:]}
            below = [name for name in below if "/" not in name[start:]]
        else:
            inside = set()
        folders = [{"type": "directory", "path": f"{folder}/{i}".lstrip("/"), "oid": "0" * 40} for i in sorted(inside)]
        self.answer([*folders, *(entry(name, content[name]) for name in below)])

    def paths(self, repo: str, revision: str) -> None:
        repository = self.repository(repo)
        content = repository.commits[self.commit_of(repository, revision)]
        is_json = "json" in self.headers.get("content-type", "")
        wanted = json.loads(self.body)["paths"] if is_json else parse_qs(self.body.decode()).get("paths", [])
        found = [entry(name, content[name]) for name in wanted if name in content]
        folders = {name for name in wanted if any(inner.startswith(f"{name}/") for inner in content)}
        self.answer([*found, *({"type": "directory", "path": name, "oid": "0" * 40} for name in sorted(folders))])

    def create_branch(self, repo: str, branch: str) -> None:
        repository = self.for_writing(repo)
        if branch in repository.branches:
            raise RefusedError(409, message="Reference already exists")
        start = self.commit_of(repository, json.loads(self.body or b"{}").get("startingPoint", "main"))
        repository.branches[branch] = start
        self.answer({})

    def validate_card(self) -> None:
        content = json.loads(self.body)["content"]
        errors: list[str] = []
        try:
            front = yaml.safe_load(content.split("---")[1]) if content.startswith("---") else {}
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", front.get("base_model", "user/base")):
                errors.append('"base_model" must be the name of a model')
        except yaml.YAMLError as error:
            errors.append(str(error))
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        self.answer(answer, 400 if errors else 200)

    def how_to_upload(self, repo: str, revision: str) -> None:
        repository = self.for_writing(repo)
        content = repository.commits[self.commit_of(repository, revision)]
        self.answer(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if is_large(file["path"]) else "regular",
                        "shouldIgnore": False,
                        "oid": name_of(file["path"], content[file["path"]]) if file["path"] in content else None,
                    }
                    for file in json.loads(self.body)["files"]
                ]
            }
        )

    def lfs_batch(self, repo: str) -> None:
        self.for_writing(repo)
        objects: list[dict[str, Any]] = []
        for wanted in json.loads(self.body)["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.elsewhere}/storage/{wanted['oid']}"},
                "verify": {"href": f"{self.hub.url}/{repo}/verify"},
            }
            objects.append(wanted | ({} if wanted["oid"] in self.hub.large else {"actions": actions}))
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.large[oid] = self.body
        self.answer({}, headers={"ETag": f'"{oid}"'})

    def verify(self, repo: str) -> None:
        values = json.loads(self.body)
        if len(self.hub.large.get(values["oid"], b"")) != values["size"]:
            raise RefusedError(404, message="not uploaded")
        self.answer({})

    def commit(self, repo: str, revision: str) -> None:
        repository = self.for_writing(repo)
        lines = [json.loads(line) for line in self.body.splitlines()]
        content = dict(repository.commits[self.commit_of(repository, revision)])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                content[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del content[value["path"]]
        request = "create_pr" in self.query
        branch = f"refs/pr/{len(repository.branches)}" if request else revision
        sha = repository.commit(branch, content, lines[0]["value"]["summary"])
        address = f"{self.hub.url}/{repo}"
        self.answer(
            {
                "commitUrl": f"{address}/commit/{sha}",
                "commitOid": sha,
                "pullRequestUrl": f"{address}/discussions/{branch.rpartition('/')[2]}" if request else None,
            }
        )

    # --- downloads ----------------------------------------------------------------------------------------------------

    def resolve(self, repo: str, revision: str, name: str) -> None:
        repository = self.repository(repo)
        if repository.gated:
            raise RefusedError(403 if self.user else 401, "GatedRepo", "Access to this model is restricted")
        sha = self.commit_of(repository, revision)
        content = repository.commits[sha].get(name)
        if content is None:
            raise RefusedError(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": sha})
        oid = name_of(name, content)
        if not is_large(name):
            self.answer(content, headers={"ETag": f'"{oid}"', "X-Repo-Commit": sha})
            return
        self.hub.large[oid] = content
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": sha}
        self.answer(b"", 302, {"Location": f"{self.hub.elsewhere}/storage/{oid}", **linked})

    def fetch_large(self, oid: str) -> None:
        self.answer(self.hub.large[oid], headers={"ETag": f'"{oid}"'})


def entry(name: str, content: bytes) -> dict[str, Any]:
    """A file as the Hub lists it."""
    return {"type": "file", "path": name, "size": len(content), "oid": name_of(name, content)}


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".pt"))


def name_of(name: str, content: bytes) -> str:
    """What git calls a file's content, or LFS if it is large."""
    if is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
ROUTES: list[tuple[tuple[str, ...], str, Callable[..., None]]] = [
    (("GET",), r"/api/whoami-v2", Handler.who_am_i),
    (("POST",), r"/api/repos/create", Handler.create_repository),
    (("POST",), r"/api/validate-yaml", Handler.validate_card),
    (("GET",), rf"/api/models/{REPO}", Handler.information),
    (("GET",), rf"/api/models/{REPO}/revision/(?P<revision>.+)", Handler.information),
    (("GET",), rf"/api/datasets/{REPO}", Handler.information),
    (("GET",), rf"/api/datasets/{REPO}/revision/(?P<revision>.+)", Handler.information),
    (("GET",), rf"/api/datasets/{REPO}/tree/(?P<revision>[^/]+)", Handler.tree),
    (("GET",), rf"/api/datasets/{REPO}/tree/(?P<revision>[^/]+)/(?P<folder>.+)", Handler.tree),
    (("POST",), rf"/api/datasets/{REPO}/paths-info/(?P<revision>[^/]+)", Handler.paths),
    (("GET", "HEAD"), rf"/datasets/{REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", Handler.resolve),
    (("POST",), rf"/api/models/{REPO}/branch/(?P<branch>.+)", Handler.create_branch),
    (("POST",), rf"/api/models/{REPO}/preupload/(?P<revision>.+)", Handler.how_to_upload),
    (("POST",), rf"/api/models/{REPO}/commit/(?P<revision>.+)", Handler.commit),
    (("POST",), rf"/{REPO}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (("POST",), rf"/{REPO}/verify", Handler.verify),
    (("PUT",), r"/storage/(?P<oid>\w+)", Handler.store),
    (("GET", "HEAD"), r"/storage/(?P<oid>\w+)", Handler.fetch_large),
    (("GET", "HEAD"), rf"/{REPO}/resolve/(?P<revision>refs/pr/\d+|[^/]+)/(?P<name>.+)", Handler.resolve),
]


# --- a client that knows only this Hub --------------------------------------------------------------------------------


class FailedError(Exception):
    """What went wrong in the client's process: the error's name and message."""


@dataclass
class Client:
    """Runs functions in processes of their own, since the Hub's client reads its settings when it is imported."""

    endpoint: str
    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a process know this Hub alone."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": "",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **self.settings,
        }

    def run(self, work: Callable[..., Any], *args: Any, seconds: float = 60, **kwargs: Any) -> Any:
        """What `work` returns; `FailedError` if it raises."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["lumora.lora", "httpx", "httpx2", "pytest", "tests.lora.adapter_folders"])
        here, there = context.Pipe(duplex=False)
        name = (work.__module__, work.__name__)  # its module is imported there, after the settings are made
        process = context.Process(target=_in_child, args=(there, self.environment, name, args, kwargs))
        process.start()
        there.close()
        try:
            assert here.poll(seconds), f"{work.__name__} hangs"
            good, result = here.recv()
        finally:
            process.kill()
            process.join()
        if not good:
            raise FailedError(result)
        return result


def _in_child(pipe: Any, environment: dict[str, str], name: tuple[str, str], args: Any, kwargs: Any) -> None:
    try:
        assert "huggingface_hub" not in sys.modules, "it would not see its settings"
        os.environ.update(environment)
        work = getattr(importlib.import_module(name[0]), name[1])
        pipe.send((True, work(*args, **kwargs)))
    except BaseException as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))


@contextmanager
def serving() -> Iterator[Hub]:
    """A Hub that is there inside the `with`."""
    hub = Hub()
    try:
        yield hub
    finally:
        hub.stop()
