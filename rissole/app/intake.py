"""How files come in: each into a place of its own, whole or not at all."""

from __future__ import annotations

import shutil

from anyio.to_thread import run_sync
from gradio.route_utils import API_PREFIX
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rissole.app.address import caller
from rissole.app.disk import Disk
from rissole.config import RissoleError
from rissole.storage.files import writing

MAX_FILES = 16  # in one request; the page sends one


def upload_route(disk: Disk, limit: int, words: dict[str, str]) -> Route:
    """Takes the place of the library's own, which puts files of the same content in one place.

    What arrives lies in unnamed files until it is whole: an upload that is cut leaves nothing.

    Args:
        disk: where to put it.
        limit: bytes of one file.
        words: what to say to those who are refused.
    """

    def keep(file: UploadFile, address: str) -> str:
        path = disk.new_upload(file.filename or "", file.size or 0, address)
        try:
            with writing(path, lasting=False) as target:
                shutil.copyfileobj(file.file, target)
        except RissoleError:
            disk.read_once(path)
            raise
        return str(path)

    async def upload(request: Request) -> Response:
        address = caller(request)
        try:
            async with request.form(max_files=MAX_FILES) as form:
                sent = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
                if not sent:
                    return PlainTextResponse(words["noFile"], 400)
                if any((file.size or 0) > limit for file in sent):
                    return PlainTextResponse(words["large"], 413)
                return JSONResponse([await run_sync(keep, file, address) for file in sent])
        except (HTTPException, AssertionError):  # it is no form, or not a whole one
            return PlainTextResponse(words["noFile"], 400)
        except (RissoleError, OSError):
            return PlainTextResponse(words["room"], 507)

    return Route(f"{API_PREFIX}/upload", upload, methods=["POST"])
