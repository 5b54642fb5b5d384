"""The few calls of GitHub's REST API that comments and issues take (docs.github.com/rest, version 2022-11-28)."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib import error as urllib_error
from urllib import request as urllib_request
from urllib.parse import quote, urlsplit

from tfserving.errors import TFServingError
from tfserving.hosts import is_loopback, opener

ACTIONS_LOGIN = "github-actions[bot]"
"""Who ``GITHUB_TOKEN`` of a workflow is."""

_PER_PAGE = 100
_PAGES = 500
_TRIES = 3
_SECONDS = 30.0
_LONGEST_WAIT = 60.0


class GitHubError(TFServingError):
    """GitHub refused, or was not reached. The message never holds the token.

    Attributes:
        status: HTTP status; 0 where there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Post:
    """A comment or an issue.

    Attributes:
        number: of an issue; the id of a comment.
        body: its text.
        author: login of who made it.
        url: where people read it.
    """

    number: int
    body: str
    author: str
    url: str


@dataclass(frozen=True)
class GitHub:
    """One repository.

    Attributes:
        repository: ``owner/name``.
        token: sent as a bearer token.
        api: base URL of the API; GitHub Enterprise has its own.
        author: login that the token stands for; posts of others are never touched.
    """

    repository: str
    token: str = field(repr=False)
    api: str = "https://api.github.com"
    author: str = ACTIONS_LOGIN

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise GitHubError(f"{self.repository!r} is not a repository; write owner/name")
        parts = urlsplit(self.api)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise GitHubError(f"{self.api!r}: the token is sent over https only")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> GitHub:
        """The repository of a workflow run: ``GITHUB_TOKEN``, ``GITHUB_REPOSITORY``, ``GITHUB_API_URL``.

        ``GITHUB_AUTHOR`` is the login the token stands for, where that is not the workflow's own token.

        Raises:
            GitHubError: one of them is missing.
        """
        missing = [name for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY") if not environment.get(name)]
        if missing:
            raise GitHubError(f"{' and '.join(missing)} must be set in the environment to post to GitHub")
        return cls(
            environment["GITHUB_REPOSITORY"],
            environment["GITHUB_TOKEN"],
            environment.get("GITHUB_API_URL") or cls.api,
            environment.get("GITHUB_AUTHOR") or ACTIONS_LOGIN,
        )

    # ---- comments --------------------------------------------------------------------------------------------------

    def put_comment(self, pull_request: int, marker: str, body: str) -> Post:
        """Makes the one comment of a pull request that begins with a marker say ``body``.

        Comments of other authors are left alone, whatever they begin with. Should there be several, the oldest stays.

        Args:
            pull_request: its number.
            marker: first line of the comment.
            body: the whole text, marker included.

        Raises:
            GitHubError: GitHub refuses or is not reached.
        """
        mine = [
            post
            for post in map(_post, self._pages(f"issues/{pull_request}/comments"))
            if post.author == self.author and _begins_with(post.body, marker)
        ]
        if not mine:
            return _post(self._call("POST", f"issues/{pull_request}/comments", {"body": body}))
        first, *others = sorted(mine, key=lambda post: post.number)
        for other in others:
            self._call("DELETE", f"issues/comments/{other.number}")
        if _same(first.body, body):
            return first
        return _post(self._call("PATCH", f"issues/comments/{first.number}", {"body": body}))

    # ---- issues ----------------------------------------------------------------------------------------------------

    def find_issue(self, marker: str) -> Post | None:
        """The oldest open issue of ours that begins with a marker.

        Raises:
            GitHubError: GitHub refuses or is not reached.
        """
        issues = self._pages("issues?state=open&sort=created&direction=asc")
        for post in (_post(issue) for issue in issues if "pull_request" not in issue):
            if post.author == self.author and _begins_with(post.body, marker):
                return post
        return None

    def put_issue(self, marker: str, title: str, body: str, labels: tuple[str, ...] = ()) -> Post:
        """Makes the one open issue that begins with a marker say ``body``; opens it where there is none.

        Raises:
            GitHubError: GitHub refuses or is not reached.
        """
        found = self.find_issue(marker)
        if found is None:
            return _post(self._call("POST", "issues", {"title": title, "body": body, "labels": list(labels)}))
        if _same(found.body, body):
            return found
        return _post(self._call("PATCH", f"issues/{found.number}", {"title": title, "body": body}))

    def close_issue(self, marker: str, comment: str) -> Post | None:
        """Closes the issue that begins with a marker, with a last comment; None where none is open.

        Raises:
            GitHubError: GitHub refuses or is not reached.
        """
        found = self.find_issue(marker)
        if found is not None:
            self._call("POST", f"issues/{found.number}/comments", {"body": comment})
            self._call("PATCH", f"issues/{found.number}", {"state": "closed", "state_reason": "completed"})
        return found

    # ---- pull requests ---------------------------------------------------------------------------------------------

    def find_pull_request(self, branch: str) -> Post | None:
        """The pull request of a branch of this repository, open or closed; None where there was never one.

        Raises:
            GitHubError: GitHub refuses or is not reached.
        """
        owner = self.repository.partition("/")[0]
        found = self._pages(f"pulls?state=all&head={quote(f'{owner}:{branch}', safe='')}")
        return next((_post(raw) for raw in found if (raw.get("head") or {}).get("ref") == branch), None)

    def is_open(self, number: int) -> bool:
        """Whether a pull request waits for somebody.

        Raises:
            GitHubError: GitHub refuses or is not reached.
        """
        return self._call("GET", f"pulls/{number}").get("state") == "open"

    def open_pull_request(
        self, branch: str, base: str, parent: str, files: Mapping[str, str | None], title: str, body: str
    ) -> Post:
        """One commit on a new branch, and the pull request for it.

        Args:
            branch: its name.
            base: the branch to merge into.
            parent: the commit that the files were read from, so that what changed since shows as a conflict.
            files: content by path; None takes a file out.
            title: of the commit and the pull request.
            body: what the pull request says.

        Raises:
            GitHubError: GitHub refuses or is not reached.
        """
        tree = [
            {"path": path, "mode": "100644", "type": "blob"} | ({"sha": None} if text is None else {"content": text})
            for path, text in files.items()
        ]
        of_parent = self._call("GET", f"git/commits/{parent}")["tree"]["sha"]
        made = self._call("POST", "git/trees", {"base_tree": of_parent, "tree": tree})["sha"]
        commit = self._call("POST", "git/commits", {"message": title, "tree": made, "parents": [parent]})["sha"]
        self._call("POST", "git/refs", {"ref": f"refs/heads/{branch}", "sha": commit})
        return _post(self._call("POST", "pulls", {"title": title, "head": branch, "base": base, "body": body}))

    # ---- HTTP ------------------------------------------------------------------------------------------------------

    def _pages(self, path: str) -> Iterator[Mapping[str, Any]]:
        """Every item of a list, over all of its pages."""
        url = self._url(f"{path}{'&' if '?' in path else '?'}per_page={_PER_PAGE}")
        for _ in range(_PAGES):
            found, headers = self._send("GET", url)
            if not isinstance(found, list):
                raise GitHubError(f"GET {urlsplit(url).path}: the answer is not a list")
            yield from found
            following = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("Link") or "")
            if not following:
                return
            url = following[1]
            if urlsplit(url)[:2] != urlsplit(self.api)[:2]:
                raise GitHubError("the next page is said to be on another host; the token is not sent there")
        raise GitHubError(f"GET {urlsplit(url).path}: more than {_PAGES} pages")

    def _call(self, method: str, path: str, body: Any = None) -> Mapping[str, Any]:
        found, _ = self._send(method, self._url(path), body)
        return found if isinstance(found, dict) else {}

    def _url(self, path: str) -> str:
        return f"{self.api.rstrip('/')}/repos/{self.repository}/{path}"

    def _send(self, method: str, url: str, body: Any = None) -> tuple[Any, Mapping[str, str]]:
        """One request. What is safe to repeat is repeated when GitHub stumbles; waits as long as it asks for."""
        asked = urllib_request.Request(  # noqa: S310 (the scheme is checked above)
            url,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
                "User-Agent": "tf-serving-stacks",
                "Content-Type": "application/json",
            },
        )
        what = f"{method} {urlsplit(url).path}"
        way = opener(url)
        for attempt in range(1, _TRIES + 1):
            try:
                with way.open(asked, timeout=_SECONDS) as response:
                    raw = response.read()
                    return (json.loads(raw) if raw else None), dict(response.headers)
            except urllib_error.HTTPError as refused:
                limited = refused.code == 429 or (refused.code == 403 and refused.headers.get("Retry-After"))
                again = limited or (refused.code >= 500 and method != "POST")
                if not again or attempt == _TRIES:
                    raise GitHubError(_refusal(what, refused), refused.code) from None
                wait = float(attempt)
                if limited and (refused.headers.get("Retry-After") or "").isdigit():
                    wait = float(refused.headers["Retry-After"])
                time.sleep(min(wait, _LONGEST_WAIT))
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                if method == "POST" or attempt == _TRIES:
                    raise GitHubError(f"{what}: no answer that can be used from {self.api}: {reason}") from None
                time.sleep(attempt)
        raise AssertionError("unreachable")


def pull_request_number(environment: Mapping[str, str] = os.environ) -> int:
    """The pull request a workflow runs for, by the event that started it.

    Raises:
        GitHubError: it does not run for one.
    """
    try:
        return int(_event(environment)["pull_request"]["number"])
    except (KeyError, TypeError, ValueError):
        raise GitHubError("this run is not for a pull request; name one with --pull-request") from None


def commit(environment: Mapping[str, str] = os.environ) -> str:
    """The commit a workflow runs for, of a pull request its newest; empty outside of a workflow."""
    try:
        return str(_event(environment)["pull_request"]["head"]["sha"])
    except (KeyError, TypeError):
        return environment.get("GITHUB_SHA", "")


def _event(environment: Mapping[str, str]) -> Any:
    try:
        return json.loads(Path(environment.get("GITHUB_EVENT_PATH", "")).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def run_url(environment: Mapping[str, str] = os.environ) -> str:
    """Where the log of this workflow run is; empty outside of one."""
    parts = [environment.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return f"{parts[0]}/{parts[1]}/actions/runs/{parts[2]}" if all(parts) else ""


def _post(raw: Mapping[str, Any]) -> Post:
    user = raw.get("user") or {}
    return Post(
        int(raw.get("number") or raw.get("id") or 0),
        str(raw.get("body") or ""),
        str(user.get("login", "")),
        str(raw.get("html_url", "")),
    )


def _begins_with(body: str, marker: str) -> bool:
    return body.splitlines()[:1] == [marker]


def _same(one: str, other: str) -> bool:
    # GitHub keeps line ends as CRLF where a browser sent them, and takes blanks off the end.
    return one.replace("\r\n", "\n").strip() == other.strip()


_FIXES = {
    401: "GITHUB_TOKEN is not valid",
    403: "the token may not do that: the workflow needs `pull-requests: write`, `issues: write` or `contents: write`",
    404: "there is no such repository, commit, pull request or issue, or the token may not see it",
    410: "issues are switched off in this repository",
}


def _refusal(what: str, refused: urllib_error.HTTPError) -> str:
    try:
        message = str(json.loads(refused.read(100_000))["message"])
    except (OSError, ValueError, KeyError, TypeError):
        message = str(refused.reason)
    fix = _FIXES.get(refused.code)
    return f"{what}: {refused.code} {message}" + (f". {fix}" if fix else "")
