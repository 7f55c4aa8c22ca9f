"""The page's modules and pictures, as browsers fetch them: plain files, no build step."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rissole.app.assets import FOLDER
from rissole.app.guard import ONE_YEAR

MAIN = "shared/main.js"
TYPES = {".js": "text/javascript; charset=utf-8", ".webp": "image/webp"}


@dataclass(frozen=True)
class Modules:
    """What all modules, and the pictures beside them, hold, and where they are.

    Attributes:
        files: contents by path below the folder, such as `shared/dom.js`.
        version: a hash over all of them. It is part of each address, so that a browser can keep
            what it got for ever, and modules of two versions never meet in one page.
    """

    files: dict[str, bytes]
    version: str

    def address(self, name: str) -> str:
        """Where a module is, relative to the page: it may lie behind a proxy, in a folder."""
        return f"web/{self.version}/{name}"

    def head(self) -> str:
        """The elements of the page's head that load them all at once, and start the first."""
        scripts = (name for name in self.files if name.endswith(".js"))
        links = (f'<link rel="modulepreload" href="{self.address(name)}">' for name in scripts)
        return "".join(links) + f'<script type="module" src="{self.address(MAIN)}"></script>'

    def loader(self, name: str, events: tuple[str, ...] = ()) -> str:
        """What Gradio runs for a component: it loads the component's module, and hands it over.

        Args:
            name: of the component; its module is `<name>.js`.
            events: that the module triggers. Gradio lets Python listen to those whose names it
                finds in quotes in what it runs, comments included.
        """
        names = ", ".join(f'"{event}"' for event in events)
        return (
            f"// triggers {names}\n"
            f'import(new URL("{self.address(f"{name}.js")}", document.baseURI)).then('
            "({ mount }) => mount({ element, props, trigger, watch, upload }));"
        )

    def routes(self) -> list[Route]:
        """What serves them; an address of another version is one of a page that is out of date."""

        def module(request: Request) -> Response:
            version, name = (request.path_params[part] for part in ("version", "name"))
            if version != self.version or name not in self.files:
                return PlainTextResponse("no such module", status_code=404)
            known = {"Cache-Control": ONE_YEAR}
            return Response(self.files[name], 200, known, TYPES[PurePath(name).suffix])

        return [Route("/web/{version}/{name:path}", module)]


@functools.cache
def modules() -> Modules:
    """All modules, as they were when the first page was made."""
    paths = sorted(path for path in FOLDER.rglob("*") if path.suffix in TYPES)
    files = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in paths}
    parts = (f"{name}\0{len(content)}\0".encode() + content for name, content in files.items())
    return Modules(files, hashlib.sha256(b"".join(parts)).hexdigest()[:12])
