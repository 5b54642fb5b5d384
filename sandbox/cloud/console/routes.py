"""The routes of the console, and who may use them.

The page runs in a browser that other sites also run in, so every request is checked: the Host must be loopback (a name
of another site may resolve to it), a request that sends something must come from the page itself (Origin,
Sec-Fetch-Site), and the page may load nothing from anywhere else nor be shown in a frame (CSP). Tokens stay in this
process.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs, web

from sandbox.cloud.console import API_PATH, PATH, REQUEST_PATH, debugging, story
from sandbox.cloud.console.eas_services import EasServices
from sandbox.cloud.console.kube_services import KubeServices
from sandbox.cloud.console.overview import Overview, Query
from sandbox.cloud.console.places import Declared, Group, Place, Shown
from sandbox.cloud.console.rollouts import Rollouts, waiting_for
from sandbox.cloud.eas.api import EasProduct
from sandbox.cloud.errors import ApiError, json_error
from sandbox.kube.cluster import ClusterFiles
from tfserving import wire
from tfserving.errors import TFServingError

if TYPE_CHECKING:
    from sandbox.cloud.state import CloudState

BODY_LIMIT = 16 << 20
"""Bytes of a request. An image of 224 x 224 x 3 is about 3 MB as JSON."""

_PAGE = Path(__file__).with_name("page")
_FILES = {
    "index.html": "text/html",
    "console.css": "text/css",
    **{
        f"{name}.js": "text/javascript"
        for name in ("answer", "console", "debugging", "dom", "rollouts", "services", "story", "tabs")
    },
    "icon.svg": "image/svg+xml",
}
_HOSTS = ("127.0.0.1", "localhost")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_THREADS = 8
_MOST_LINES = 1000
_LOOK_SECONDS = 5.0
_ROLLOUTS_SHOWN = 60
_WATCHED_MODELS = 50
"""Models that are asked for again and again while a rollout is under way: as many as changed, up to this."""

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class Console:
    """The page, what it shows and what it sends."""

    def __init__(self, state: CloudState) -> None:
        self._state = state
        self._session: aiohttp.ClientSession | None = None
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="console")
        self._rollouts = Rollouts(state.objects)
        self._meters = story.Meters(self._executor)
        self._seen: Overview | None = None

    def register(self, app: web.Application) -> None:
        """Adds the routes."""
        app.router.add_get(PATH.rstrip("/"), _guarded(self._redirect))
        app.router.add_get(PATH, _guarded(self._file))
        for name, look in {
            "overview": self._get_overview,
            "names": self._get_names,
            "model": self._get_model,
            "log": self._get_log,
            "events": self._get_events,
            "metrics": self._get_metrics,
            "rollouts": self._get_rollouts,
        }.items():
            app.router.add_get(f"{API_PATH}{name}", _guarded(look))
        app.router.add_post(REQUEST_PATH, _guarded(self._send))
        app.router.add_get(PATH + "{name}", _guarded(self._file))
        app.on_cleanup.append(self._stop)

    async def _stop(self, _: web.Application) -> None:
        if self._seen is not None:
            self._seen.stop()
        if self._session is not None:
            await self._session.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _redirect(self, _: web.Request) -> web.Response:
        return web.Response(status=308, headers={hdrs.LOCATION: PATH})

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        kind = _FILES.get(name)
        if kind is None:
            raise ApiError(404, "NotFound.Console", f"The console has no {name}.")
        return web.Response(body=(_PAGE / name).read_bytes(), content_type=kind, charset="utf-8")

    # Looks.

    async def _get_overview(self, request: web.Request) -> web.Response:
        query = request.query
        pages = dict(each.rpartition(":")[::2] for each in query.getall("at", []))
        wanted = Query(
            query.get("q", ""),
            bool(query.get("troubled")),
            _number(query.get("page", "1")),
            {name: _number(page) for name, page in pages.items()},
        )
        found = await self._overview.get(wanted)
        text = wanted.text.strip().lower()
        known = self._groups()
        groups = [
            group.facts
            for group in known
            if not wanted.troubled
            and any(text in name.lower() for name in (group.facts["name"], *group.members.values()))
        ]
        names = json.dumps([found["names"], [[each.choice, each.facts["address"], *each.members] for each in known]])
        return _json(self._masked({**found, "groups": groups, "names": names}))

    async def _get_names(self, _: web.Request) -> web.Response:
        services = await self._overview.names()
        models = {each["name"]: each["models"] for each in services}
        groups = [
            {
                "name": group.choice,
                "place": "PAI-EAS",
                "protocol": group.facts["protocol"],
                "address": group.facts["address"],
                "models": list(dict.fromkeys(name for key in group.members.values() for name in models.get(key, ()))),
                "members": list(group.members),
            }
            for group in self._groups()
        ]
        return _json({"services": [*services, *groups]})

    async def _get_model(self, request: web.Request) -> web.Response:
        """A model's versions and labels, and a body made from its signature; of a group those of a member."""
        name = request.query.get("model", "")
        shown, declared = await self._serving(request.query.get("service", ""), name)
        model = next((each for each in declared.models if each.name == name), None)
        view: Mapping[str, Any] = (await self._overview.views(shown, [model]))[0] if model is not None else {}
        version, label = debugging.which(request.query)
        problem = "no replica is ready"
        sample: dict[str, Any] = {}
        if shown.targets and name:
            try:
                metadata = await self._in_thread(_metadata, shown, name, version, label)
                sample = debugging.body_for(metadata, request.query.get("signature", ""))
                problem = ""
            except TFServingError as error:
                problem = str(error)
        return _json(self._masked({"view": view, "sample": sample, "problem": problem}))

    async def _get_log(self, request: web.Request) -> web.Response:
        shown = await self._single(request)
        count = min(_number(request.query.get("lines", "200")), _MOST_LINES)
        lines = await self._in_thread(story.log, shown, count, request.query.get("word", ""), self._secrets())
        return _json({"lines": lines})

    async def _get_events(self, request: web.Request) -> web.Response:
        shown = await self._single(request)
        return _json({"events": await self._in_thread(story.events, shown, self._secrets())})

    async def _get_metrics(self, request: web.Request) -> web.Response:
        shown = await self._single(request)
        found = await self._meters.look(shown, request.query.get("q", ""), _number(request.query.get("page", "1")))
        return _json(self._masked(found))

    async def _get_rollouts(self, _: web.Request) -> web.Response:
        """The newest writes of every model config file, and what the newest of each waits for."""
        readers: dict[str, list[tuple[Shown, Any]]] = {}
        for shown, declared in await self._overview.services():
            if shown.config:
                readers.setdefault(shown.config, []).append((shown, declared))
        found = []
        for place, services in readers.items():
            names = [shown.name for shown, _ in services]
            writes = await self._in_thread(self._rollouts.told, place, names)
            if writes and (changed := set(writes[0]["models"][:_WATCHED_MODELS])):
                waiting = [
                    line
                    for shown, declared in services
                    if shown.targets
                    for view in await self._overview.views(
                        shown, [each for each in declared.models if each.name in changed]
                    )
                    for line in waiting_for(shown.name, view)
                ]
                writes[0] |= self._rollouts.settle(place, writes[0], waiting, time.time())
            found += writes
        found.sort(key=lambda each: each["time"], reverse=True)
        return _json(self._masked({"writes": found[:_ROLLOUTS_SHOWN], "now": time.time()}))

    # Requests.

    async def _send(self, request: web.Request) -> web.Response:
        try:
            data = json.loads(await _body(request))
        except ValueError as error:
            raise ApiError(400, "InvalidParameter", f"The request is not JSON: {error}.") from None
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=debugging.ANSWER_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        wanted = debugging.Request.parse(data)
        sender = await self._sender(wanted.service, self._session)
        sent = await sender.send(wanted)
        return _json(await self._in_thread(debugging.for_page, sent))

    async def _sender(self, name: str, session: aiohttp.ClientSession) -> debugging.Sender:
        """What sends requests to a service, or to a group.

        Raises:
            ApiError: 404, there is none.
        """
        if (group := self._group(name)) is None:
            shown, _ = await self._overview.find(name)
            return debugging.Sender(shown.address, session, self._executor)
        services = {shown.name: shown.address for shown, _ in await self._overview.services()}
        members = {member: services.get(key) for member, key in group.members.items()}
        return debugging.Sender(group.address, session, self._executor, members)

    # Parts.

    def _groups(self) -> list[Group]:
        return EasServices(self._eas(), self._state.objects).groups()

    def _group(self, name: str) -> Group | None:
        return next((group for group in self._groups() if group.choice == name), None)

    async def _serving(self, name: str, model: str) -> tuple[Shown, Declared]:
        """A service, or of a group a member that serves a model, one that is ready if there is one.

        Raises:
            ApiError: 404, there is none.
        """
        if (group := self._group(name)) is None:
            return await self._overview.find(name)
        keys = group.members.values()
        members = [found for found in await self._overview.services() if found[0].name in keys]
        fitting = [found for found in members if any(each.name == model for each in found[1].models)] or members
        ready = [found for found in fitting if found[0].targets] or fitting
        return ready[0] if ready else await self._overview.find(name)

    async def _single(self, request: web.Request) -> Shown:
        """The service that a question is about.

        Raises:
            ApiError: 404, there is none, or it is a group.
        """
        name = request.query.get("service", "")
        if group := self._group(name):
            members = " or ".join(group.members.values())
            raise ApiError(404, "InvalidService.NotFound", f"A group has none of its own: choose {members}.")
        shown, _ = await self._overview.find(name)
        return shown

    @property
    def _overview(self) -> Overview:
        if self._seen is None:
            places: list[Place] = [EasServices(self._eas(), self._state.objects)]
            if self._state.cluster is not None:
                files = ClusterFiles(self._state.cluster)
                places.append(KubeServices(files, self._executor, self._rollouts.saw))
            self._seen = Overview(places, self._executor)
        return self._seen

    def _eas(self) -> EasProduct:
        return next(product for product in self._state.products if isinstance(product, EasProduct))

    def _secrets(self) -> list[str]:
        """Tokens of services and groups, and this cloud's key."""
        runtime = self._eas().runtime
        found = [each.record.token for each in runtime.all()] + [each.record.token for each in runtime.groups.all()]
        return [*found, self._state.access_key.secret] if self._state.access_key is not None else found

    def _masked(self, value: Any) -> Any:
        """A value whose texts hold no secret: servers may quote one in what they say went wrong."""
        secrets = self._secrets()

        def walk(part: Any) -> Any:
            match part:
                case str():
                    return story.masked(part, secrets)
                case Mapping():
                    return {name: walk(item) for name, item in part.items()}
                case list() | tuple():
                    return [walk(item) for item in part]
                case _:
                    return part

        return walk(value)

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)


def _metadata(shown: Shown, model: str, version: int | None, label: str | None) -> dict[str, Any]:
    with shown.targets[0].connect(_LOOK_SECONDS) as client:
        return client.metadata(model, version, label)


def _json(value: Any) -> web.Response:
    """JSON in which whole numbers that JavaScript would round are text."""
    return web.json_response(wire.exact(value))


def _number(text: str) -> int:
    """Raises:
    ApiError: 400, it is not a whole number from 1.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise ApiError(400, "InvalidParameter", f"{text!r} is not a positive number.")
    return int(text)


def _guarded(handler: _Handler) -> _Handler:
    """Lets only the page itself and a person's browser through, and sends the headers that keep it so."""

    async def handle(request: web.Request) -> web.Response:
        try:
            _check(request)
            response = await handler(request)
        except ApiError as error:
            response = json_error(error)
        response.headers.update(_HEADERS)
        return response

    return handle


def _check(request: web.Request) -> None:
    """Raises:
    ApiError: 403, the request does not come from this page, nor from a person.
    """
    if not _is_loopback(request.host):
        raise _forbidden(f"The console is not at {request.host!r}: open it at 127.0.0.1 or localhost.")
    is_navigation = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method == "GET"
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("same-origin", "none") and not is_navigation:
        raise _forbidden("Another site may not use the console.")
    if request.method == "GET":
        return
    if request.headers.get(hdrs.ORIGIN) != f"{request.scheme}://{request.host}":
        raise _forbidden("Only the console's own page may send requests.")
    if request.content_type != "application/json":
        raise ApiError(415, "InvalidParameter", "The request must be application/json.")


def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine. The port may be a tunnel's."""
    try:
        return urlsplit(f"//{host}").hostname in _HOSTS
    except ValueError:
        return False


def _forbidden(message: str) -> ApiError:
    return ApiError(403, "Forbidden.Console", message)


async def _body(request: web.Request) -> bytes:
    """Raises:
    ApiError: 413, too large.
    """
    data = bytearray()
    async for chunk in request.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > BODY_LIMIT:
            raise ApiError(413, "InvalidParameter", f"The request is larger than {BODY_LIMIT >> 20} MiB.")
    return bytes(data)
