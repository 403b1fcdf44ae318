"""The server of ``vitrail serve``: a few addresses, one at a time through the model.

======================== ==========================================================
``GET /``                the viewer
``GET /run``             the run and its cases
``GET /cases/N``         one case with its maps; ``/picture``, ``/outline``, ``/close``
``POST /pictures?name=`` a new picture: the file is the body; answers its case. ``sizes=``: the
                         body is the files of one scan; ``url=``: it is fetched
``GET /export``          what was sent, labelled: a ZIP archive
``GET /report``          the run's report
======================== ==========================================================
"""

import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import uvicorn
from anyio import CapacityLimiter, fail_after, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from vitrail.errors import InputError, RunFolderError, VitrailError
from vitrail.report.viewer.script import modules, shell, style
from vitrail.runfolder import RunFolder
from vitrail.web.receiving import fetch, receive
from vitrail.web.security import Access, Guard, access, is_loopback
from vitrail.web.session import Session

MOST_WAITING = 32
"""Requests that may wait for the model; further ones are told to come back."""

MOST_RECEIVING = 8
"""Pictures that may come at once; each takes room on disk until it is decoded."""

WORK_SECONDS = 120
_REPORT_POLICY = "frame-ancestors 'none'; base-uri 'none'"
_LOG = logging.getLogger("vitrail")
Answer = TypeVar("Answer")


class Server:
    """Answers requests about one session.

    Args:
        session: The run.
        allow_url: Whether public addresses may be asked for pictures.
    """

    def __init__(self, session: Session, *, allow_url: bool = False) -> None:
        self.session = session
        self.allow_url = allow_url
        self.receiving = 0
        self.turn = CapacityLimiter(1)
        self.waiting = 0

    async def work(self, task: Callable[[], Answer]) -> Answer:
        """Do what is long in a thread, one at a time."""
        if self.waiting >= MOST_WAITING:
            raise HTTPException(429, "too many requests wait for the model: try again")
        self.waiting += 1
        try:
            with fail_after(WORK_SECONDS):
                return await to_thread.run_sync(task, limiter=self.turn, abandon_on_cancel=True)
        except TimeoutError as error:
            raise HTTPException(503, f"it took longer than {WORK_SECONDS} s") from error
        finally:
            self.waiting -= 1

    def place(self, request: Request) -> int:
        """Return the place of the case that is asked for."""
        index: int = request.path_params["index"]
        if index >= len(self.session.case_ids) + len(self.session.sent):
            raise HTTPException(404, "there is no such case")
        return index

    async def page(self, request: Request) -> Response:
        """Show the viewer."""
        del request
        frame = files("vitrail.web").joinpath("page.html").read_text("utf-8")
        return Response(frame.replace("<!-- viewer -->", shell()), media_type="text/html")

    async def asset(self, request: Request) -> Response:
        """Hand out a module or the style sheet."""
        name = request.path_params["name"]
        if name == "viewer.css":
            page = files("vitrail.report").joinpath("template", "style.css").read_text("utf-8")
            own = files("vitrail.web").joinpath("page.css").read_text("utf-8")
            return Response(f"{page}\n{style()}\n{own}", media_type="text/css")
        text = modules().get(name.removesuffix(".js"))
        if text is None:
            raise HTTPException(404, "there is no such file")
        return Response(text, media_type="text/javascript")

    async def run(self, request: Request) -> Response:
        """List the cases."""
        del request
        known = await to_thread.run_sync(self.session.run_json)
        return JSONResponse({**known, "allowUrl": self.allow_url})

    async def case(self, request: Request) -> Response:
        """Answer one case."""
        return JSONResponse(await to_thread.run_sync(self.session.case_json, self.place(request)))

    async def picture(self, request: Request) -> Response:
        """Answer a case's picture."""
        content = await to_thread.run_sync(self.session.picture, self.place(request))
        return Response(content, media_type="image/png")

    async def close(self, request: Request) -> Response:
        """Answer a close look."""
        return JSONResponse(await self.work(partial(self.session.close_json, self.place(request))))

    async def outline(self, request: Request) -> Response:
        """Answer the border of a case's mask."""
        content = await to_thread.run_sync(self.session.outline, self.place(request))
        return Response(content, media_type="image/png")

    async def add(self, request: Request) -> Response:
        """Take a new picture, or the files of one scan."""
        if self.receiving >= MOST_RECEIVING:
            raise HTTPException(429, "too many pictures come at once: try again")
        url = request.query_params.get("url", "")
        if url and not self.allow_url:
            raise HTTPException(403, "addresses are not asked: start the server with --allow-url")
        self.receiving += 1
        try:
            with TemporaryDirectory(prefix="vitrail-") as folder:
                most = self.session.most_bytes
                into = Path(folder)
                came = await (fetch(url, into) if url else receive(request, into, most_bytes=most))
                task = partial(self.session.add, came.name, came.path, mask=came.mask)
                return JSONResponse(await self.work(task), status_code=201)
        finally:
            self.receiving -= 1

    async def export(self, request: Request) -> Response:
        """Answer everything that was sent, labelled."""
        del request
        content = await self.work(self.session.export)
        named = {"content-disposition": 'attachment; filename="vitrail-new-pictures.zip"'}
        return Response(content, media_type="application/zip", headers=named)

    async def report(self, request: Request) -> Response:
        """Show the run's report as it stands."""
        del request
        path = self.session.run.report
        if not self.session.run.root.is_dir():
            raise FileNotFoundError(path)
        if not path.is_file():
            raise HTTPException(404, "the run has no report: `vitrail report` makes it")
        return FileResponse(
            path, media_type="text/html", headers={"content-security-policy": _REPORT_POLICY}
        )


async def said(request: Request, error: Exception) -> Response:
    """Say in words what went wrong, without a path of this machine."""
    del request
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
    if isinstance(error, RunFolderError | FileNotFoundError):
        _LOG.warning("the run folder changed or vanished")
        words = "the run folder changed or vanished meanwhile: start the server anew"
        return JSONResponse({"error": words}, status_code=410)
    if isinstance(error, VitrailError):
        return JSONResponse({"error": f"{error.came}; {error.rule}"}, status_code=422)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    _LOG.error("a request failed: %s", type(error).__name__)
    return JSONResponse({"error": "the server failed on this request"}, status_code=500)


def application(session: Session, allowed: Access, *, allow_url: bool = False) -> Starlette:
    """Put the application together."""
    server = Server(session, allow_url=allow_url)
    routes: list[tuple[str, Callable[[Request], Awaitable[Response]], str]] = [
        ("/", server.page, "GET"),
        ("/viewer/{name}", server.asset, "GET"),
        ("/run", server.run, "GET"),
        ("/cases/{index:int}", server.case, "GET"),
        ("/cases/{index:int}/picture", server.picture, "GET"),
        ("/cases/{index:int}/outline", server.outline, "GET"),
        ("/cases/{index:int}/close", server.close, "GET"),
        ("/pictures", server.add, "POST"),
        ("/export", server.export, "GET"),
        ("/report", server.report, "GET"),
    ]
    handled: dict[Any, Any] = dict.fromkeys(
        (HTTPException, VitrailError, FileNotFoundError, ClientDisconnect, 500), said
    )
    return Starlette(
        routes=[Route(path, answer, methods=[method]) for path, answer, method in routes],
        middleware=[Middleware(Guard, access=allowed)],
        exception_handlers=handled,
    )


def serve(
    run: RunFolder,
    *,
    host: str = "127.0.0.1",
    port: int = 8642,
    with_token: bool = True,
    allow_url: bool = False,
    ready: Callable[[dict[str, Any]], None],
) -> None:
    """Serve a run until it is interrupted.

    Args:
        run: A run whose model was trained and evaluated.
        host: Address to listen on.
        port: Port to listen on; 0 is any that is free.
        with_token: Whether the token is needed.
        allow_url: Whether public addresses may be asked for pictures.
        ready: Told the ``address``, with sentences, just before the server starts.

    Raises:
        InputError: If others could reach the server without a token, or the port is taken.
        RunFolderError: If the run lacks something.
    """
    access(host, port, with_token=with_token)  # refuses before anything is loaded
    session = Session(run)
    if not is_loopback(host):
        _LOG.warning(
            "--host %s: everybody who reaches this address and knows the token sees the pictures, "
            "and what is sent is not encrypted: put it behind a proxy that speaks TLS",
            host,
        )
    bound = _bound(host, port)
    port = bound.getsockname()[1]
    allowed = access(host, port, with_token=with_token)
    settings = uvicorn.Config(
        application(session, allowed, allow_url=allow_url),
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=256,
        timeout_keep_alive=10,
    )
    address = f"http://{host}:{port}/" + (f"?token={allowed.token}" if allowed.token else "")
    ready({"address": address, "summary": [f"open {address}", "stop it with Ctrl-C"]})
    with suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    """Take the address that the server listens on.

    Raises:
        InputError: If it is not to be had.
    """
    try:
        family = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        rule = "it is free, and an address of this machine"
        raise InputError(
            f"--host {host} --port {port}", str(error), rule, "choose another, or --port 0"
        ) from error
