"""The frame of the sandbox cloud: one port, one aiohttp application, and products that take requests by their shape.

A product is asked in turn whether a request is its own; OSS, which owns every path, is asked last. What looks like an
OpenAPI call and belongs to no product is answered by a 4xx that names the call, so that a gap is seen at once and never
retried. The request log holds methods, paths and statuses, never headers or bodies, and query values that could be
secrets are masked.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from sandbox import browser, paths
from sandbox.cloud import account, cms, console, cs, eas, health, signatures
from sandbox.cloud.eas.gateway import PREFIX as GATEWAY_PREFIX
from sandbox.cloud.errors import ApiError, is_out_of_space, json_error, request_id
from sandbox.cloud.openapi import openapi_call
from sandbox.cloud.oss.mounts import LiveView
from sandbox.cloud.oss.service import OssProduct
from sandbox.cloud.oss.store import ObjectStore
from sandbox.cloud.state import STATE, CloudState
from sandbox.keys import AccessKey

log = logging.getLogger("sandbox.cloud")

_SECRET_NAME = re.compile(r"signature|token|secret|credential|accesskey|password", re.IGNORECASE)


def create_app(
    data_dir: Path,
    port: int,
    root: Path = paths.ROOT,
    access_key: AccessKey | None = None,
    cluster: Path | None = None,
) -> web.Application:
    """Builds the application of a sandbox cloud. Run it with :func:`make_runner`.

    Args:
        data_dir: made if missing. The caller makes sure that no other cloud uses it.
        port: the port the application is going to be served on (products put it into endpoints).
        root: the project directory, reported by the health check.
        access_key: requests have to be signed with it. None, for a cloud inside a test: signatures are not checked.
        cluster: data directory of the Kubernetes cluster whose services the console shows, too; None for none.

    Raises:
        OSError: the data directory cannot be made or written.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    objects = ObjectStore(data_dir / "oss")
    state = CloudState(root, data_dir, port, objects, LiveView(objects, data_dir / "mounts"), access_key, cluster)
    app = web.Application(middlewares=[_outermost])
    app[STATE] = state
    app.router.add_get(health.PATH, _health)
    console.register(app, state)
    app.router.add_route("*", "/{path:(?s:.*)}", _dispatch)
    app.on_startup.append(_start)
    app.on_cleanup.append(_stop)
    eas.register(app, state)
    cs.register(app, state)
    cms.register(app, state)
    account.register(app, state)
    state.add(OssProduct(objects, access_key))
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """The runner every server of this application must use: bodies are taken raw and streamed, whatever their size."""
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        read_bufsize=1 << 20,
        max_line_size=1 << 15,
        max_field_size=1 << 15,
        shutdown_timeout=5.0,
    )


async def _start(app: web.Application) -> None:
    for product in app[STATE].products:
        await product.start()


async def _stop(app: web.Application) -> None:
    state = app[STATE]
    for product in reversed(state.products):
        try:
            await product.stop()
        except Exception:
            log.exception("a product failed to stop")
    state.live_view.close()
    state.objects.close()


async def _health(request: web.Request) -> web.Response:
    """Who this cloud is, for those who hold its key; others learn nothing."""
    state = request.app[STATE]
    if state.access_key is not None and not health.is_proven(request.headers, state.access_key):
        return web.Response(status=204)
    return web.json_response(
        {"sandbox": True, "root": str(state.root), "data": str(state.data_dir), "pid": os.getpid(), "port": state.port}
    )


async def _dispatch(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    product = next(product for product in state.products if product.matches(request))
    # OSS knows anonymous requests and checks its own; the gateway asks for the token of the service.
    signed = not isinstance(product, OssProduct) and not request.path.startswith(GATEWAY_PREFIX)
    if state.access_key is not None and signed:
        await signatures.check_openapi(request, state.access_key)
    return await product.handle(request)


@web.middleware
async def _outermost(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Logs every request, and turns an error no product rendered into an answer."""
    started = time.monotonic()
    status = 0
    try:
        response = await _answer(request, handler)
        status = response.status
        return response
    finally:
        if not _is_a_look(request.path):
            milliseconds = (time.monotonic() - started) * 1000
            log.info("%s %s %s %.0f ms", request.method, _loggable(request), status or "aborted", milliseconds)


async def _answer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        # The console has a guard of its own, and the health check proves itself.
        if request.match_info.handler is _dispatch:
            reason = browser.refusal(request.headers, request.host, request.scheme)
            if reason:
                raise ApiError(403, "Forbidden.Browser", f"The sandbox cloud does not answer this request: {reason}.")
        return await handler(request)
    except ApiError as error:
        return json_error(error, request.host)
    except (web.HTTPException, ConnectionError):
        raise
    except Exception as error:
        if is_out_of_space(error):
            log.error("out of disk space: %s", error)
            return json_error(ApiError(507, "InsufficientStorage", f"The sandbox cloud cannot write: {error}."))
        identifier = request_id()
        log.exception("request %s failed", identifier)
        message = f"The sandbox cloud failed on this request; its log names it {identifier}."
        return json_error(ApiError(500, "InternalError", message), request.host)


def _is_a_look(path: str) -> bool:
    """Whether a path is asked again and again, and does nothing."""
    return path == health.PATH or (path.startswith(console.API_PATH) and path != console.REQUEST_PATH)


def _loggable(request: web.Request) -> str:
    """The request target with values that could be secrets masked, and the name of the API call if it has one."""
    pairs = []
    for name, value in request.query.items():
        shown = "***" if _SECRET_NAME.search(name) else value
        pairs.append(f"{name}={shown}" if shown else name)
    target = request.rel_url.raw_path + ("?" + "&".join(pairs) if pairs else "")
    call = openapi_call(request)
    text = f"{target} [{call.name}]" if call else target
    return text.encode("unicode_escape").decode("ascii")  # one request, one line
