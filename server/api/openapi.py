"""The API described: `/openapi.json`, and `/docs`, one page made here that needs no script and no outside host."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, select_autoescape

from server.api.documented import problem

router = APIRouter(include_in_schema=False)

_pages = Environment(
    loader=PackageLoader("server.api", "templates"),
    autoescape=select_autoescape(),
    trim_blocks=True,
    lstrip_blocks=True,
)
# Paths that need no key.
OPEN = ("/healthz", "/readyz", "/metrics", "/v1/crl/{account_id}.crl")


@dataclass(frozen=True, slots=True)
class Shown:
    """One operation as the page shows it."""

    method: str
    path: str
    summary: str
    text: str
    parameters: list[dict[str, Any]]
    body: str
    answers: list[tuple[str, str, str]]
    anchor: str


def describe(app: FastAPI) -> None:
    """Say in the schema how a key is sent, and that every problem has the error shape."""
    make = app.openapi

    def with_keys() -> dict[str, Any]:
        made = app.openapi_schema
        if made is None:
            made = make()
            made.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, method, operation in _operations(made):
                if path not in OPEN:
                    operation["security"] = [{"key": []}]
                # The framework lists 422, which is 400 in the error shape here.
                operation["responses"].pop("422", None)
                if "requestBody" in operation:
                    operation["responses"].setdefault("413", problem(413))
                operation["summary"] = _first_sentence(operation.get("description", "")) or f"{method} {path}"
            app.openapi_schema = made
        return made

    app.openapi = with_keys  # type: ignore[method-assign]


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _first_sentence(text: str) -> str:
    return text.partition("\n\n")[0].replace("\n", " ")


# One page with its own style and nothing else; nobody frames it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Every operation with its parameters, its body and an example of each answer."""
    schema = request.app.openapi()
    groups: dict[str, list[Shown]] = {}
    for path, method, operation in _operations(schema):
        groups.setdefault((operation.get("tags") or ["Other"])[0], []).append(_shown(schema, path, method, operation))
    page = _pages.get_template("docs.html").render(title=schema["info"]["title"], groups=groups)
    return HTMLResponse(page, headers=HEADERS)


def _shown(schema: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> Shown:
    answers = []
    for code, answer in sorted(operation["responses"].items()):
        examples = [content.get("example") for content in answer.get("content", {}).values()]
        answers.append((code, answer.get("description", ""), _pretty(examples[0]) if examples else ""))
    return Shown(
        method=method,
        path=path,
        summary=operation["summary"],
        text=operation.get("description", "").partition("\n\n")[2],
        parameters=operation.get("parameters", []),
        body=_pretty(_example(schema, operation)),
        answers=answers,
        anchor=operation["operationId"],
    )


def _example(schema: dict[str, Any], operation: dict[str, Any]) -> object:
    contents = operation.get("requestBody", {}).get("content", {})
    content = contents.get("application/json")
    if content is None:
        return next((each["example"] for each in contents.values() if "example" in each), None)
    described = content["schema"]
    options = described.get("anyOf", [described])
    name = next((option["$ref"].rpartition("/")[2] for option in options if "$ref" in option), "")
    examples = schema["components"]["schemas"].get(name, {}).get("examples", [])
    return examples[0] if examples else None


def _pretty(example: object) -> str:
    if example is None:
        return ""
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
