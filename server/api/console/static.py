"""Style sheet, script and icon: part of the package, read once, named by their content so that browsers keep them."""

from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.errors import NotFound

router = APIRouter()

KINDS = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOLDER = files("server.api.console") / "static"
_CONTENT = MappingProxyType({file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.is_file()})
_VERSIONS = MappingProxyType({name: sha256(content).hexdigest()[:12] for name, content in _CONTENT.items()})
FOREVER = "public, max-age=31536000, immutable"


def address(name: str) -> str:
    """Where a page finds this file; another content has another address."""
    return f"/static/{_VERSIONS[name]}/{name}"


@router.get("/static/{version}/{name}")
async def static(request: Request, version: str, name: str) -> Response:
    """One file of the console; needs no sign-in."""
    if _VERSIONS.get(name) != version:
        raise NotFound(f"there is nothing at {request.url.path}")
    return Response(
        _CONTENT[name],
        media_type=KINDS[name.rpartition(".")[2]],
        headers={"Cache-Control": FOREVER, "X-Content-Type-Options": "nosniff"},
    )
