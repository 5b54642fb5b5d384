"""A mock of the part of GitHub's REST API that ``ops`` calls: GitHub itself cannot run here.

A real HTTP server on loopback that pages, refuses and limits as GitHub's documentation says it does.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

TOKEN = "ghs_the-token-of-the-tests"
BOT = "github-actions[bot]"
LONGEST_BODY = 65_536


@dataclass
class Repository:
    """One repository.

    Attributes:
        comments: by issue or pull request number, oldest first.
        issues: by number.
        requests: method and path of every request.
        failures: answers to give before the right ones: status and headers.
    """

    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    api: str = ""
    next_id: int = 1000

    def comment(self, number: int, body: str, login: str = BOT) -> dict[str, Any]:
        self.next_id += 1
        made = {"id": self.next_id, "body": body, "user": {"login": login}, "html_url": f"https://x/c/{self.next_id}"}
        self.comments.setdefault(number, []).append(made)
        return made

    def issue(self, title: str, body: str, login: str = BOT, pull_request: bool = False) -> dict[str, Any]:
        number = max(self.issues, default=0) + 1
        made: dict[str, Any] = {
            "number": number, "id": number + 10**6, "title": title, "body": body, "state": "open",
            "user": {"login": login}, "html_url": f"https://x/i/{number}", "labels": [],
        }  # fmt: skip
        if pull_request:
            made["pull_request"] = {}
        self.issues[number] = made
        return made

    def pull(self, body: dict[str, Any]) -> dict[str, Any]:
        """A pull request, made of the commit that its branch is."""
        number = max([*self.issues, *self.pulls], default=0) + 1
        made = {
            "number": number, "title": body["title"], "body": body["body"], "state": "open",
            "head": {"ref": body["head"]}, "base": {"ref": body["base"]}, "user": {"login": BOT},
            "html_url": f"https://x/p/{number}", "commit": self.objects[self.branches[body["head"]]],
        }  # fmt: skip
        self.pulls[number] = made
        return made

    def writes(self) -> list[str]:
        """Methods that changed something."""
        return [method for method, _ in self.requests if method != "GET"]


class _Handler(BaseHTTPRequestHandler):
    repository: Repository

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        raw = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _handle(self) -> None:
        repository, parts = self.repository, urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw) if raw else {}
        repository.requests.append((self.command, self.path))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"message": "Bad credentials"})
        if repository.failures:
            status, headers = repository.failures.pop(0)
            return self._answer(status, {"message": "Something went wrong"}, headers)
        if len(body.get("body") or "") > LONGEST_BODY:
            return self._answer(422, {"message": "Validation Failed: body is too long (maximum is 65536 characters)"})
        path = parts.path.removeprefix("/repos/owner/name/")
        for pattern, handler in (
            (r"issues/(\d+)/comments", self._comments),
            (r"issues/comments/(\d+)", self._comment),
            (r"issues", self._issues),
            (r"issues/(\d+)", self._issue),
            (r"pulls", self._pulls),
            (r"pulls/(\d+)", self._pull),
            (r"git/(?:commits|trees|refs)(?:/\w+)?", self._git),
        ):
            if (found := re.fullmatch(pattern, path)) and path != parts.path:
                return handler(body, *map(int, found.groups()))
        return self._answer(404, {"message": "Not Found"})

    do_GET = do_POST = do_PATCH = do_DELETE = _handle

    def _page(self, items: list[Any]) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        headers = {}
        if page * size < len(items):
            following = urlencode(query | {"page": str(page + 1)})
            last = urlencode(query | {"page": str(-(-len(items) // size))})
            where = f"{self.repository.api}{parts.path}"
            headers["Link"] = f'<{where}?{following}>; rel="next", <{where}?{last}>; rel="last"'
        self._answer(200, items[(page - 1) * size : page * size], headers)

    def _comments(self, body: dict[str, Any], number: int) -> None:
        if number not in self.repository.comments and number not in self.repository.issues:
            return self._answer(404, {"message": "Not Found"})
        if self.command == "GET":
            return self._page(self.repository.comments.get(number, []))
        return self._answer(201, self.repository.comment(number, body["body"]))

    def _comment(self, body: dict[str, Any], id_: int) -> None:
        for comments in self.repository.comments.values():
            for comment in comments:
                if comment["id"] == id_:
                    if self.command == "DELETE":
                        comments.remove(comment)
                        return self._answer(204)
                    comment["body"] = body["body"]
                    return self._answer(200, comment)
        return self._answer(404, {"message": "Not Found"})

    def _pulls(self, body: dict[str, Any]) -> None:
        repository = self.repository
        if self.command == "POST":
            if body["head"] not in repository.branches:
                return self._answer(422, {"message": "Validation Failed: head is invalid"})
            return self._answer(201, repository.pull(body))
        wanted = parse_qs(urlsplit(self.path).query).get("head", [""])[0]
        return self._page([each for each in repository.pulls.values() if wanted == f"owner:{each['head']['ref']}"])

    def _pull(self, _: dict[str, Any], number: int) -> None:
        found = self.repository.pulls.get(number)
        return self._answer(200, found) if found else self._answer(404, {"message": "Not Found"})

    def _git(self, body: dict[str, Any]) -> None:
        """Git's objects. Every commit that is asked for exists, and its tree is called after it."""
        repository, kind = self.repository, urlsplit(self.path).path.split("/git/")[1]
        if self.command == "GET":
            return self._answer(200, {"tree": {"sha": f"tree-of-{kind.rpartition('/')[2]}"}})
        if kind == "refs":
            name = body["ref"].removeprefix("refs/heads/")
            if name in repository.branches:
                return self._answer(422, {"message": "Reference already exists"})
            repository.branches[name] = body["sha"]
            return self._answer(201, body)
        repository.next_id += 1
        sha = f"{kind[0]}{repository.next_id}"
        repository.objects[sha] = (
            {**body, "files": repository.objects[body["tree"]]["tree"]} if kind == "commits" else body
        )
        return self._answer(201, {"sha": sha})

    def _issues(self, body: dict[str, Any]) -> None:
        if self.command == "POST":
            made = self.repository.issue(body["title"], body["body"])
            made["labels"] = [{"name": name} for name in body.get("labels", [])]
            return self._answer(201, made)
        wanted = parse_qs(urlsplit(self.path).query).get("state", ["open"])[0]
        return self._page([each for each in self.repository.issues.values() if wanted in ("all", each["state"])])

    def _issue(self, body: dict[str, Any], number: int) -> None:
        issue = self.repository.issues.get(number)
        if issue is None:
            return self._answer(404, {"message": "Not Found"})
        issue.update(body)
        return self._answer(200, issue)


@contextmanager
def serve() -> Iterator[Repository]:
    """Runs the mock on a free port of loopback."""
    repository = Repository()
    handler = type("Handler", (_Handler,), {"repository": repository})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    repository.api = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield repository
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
