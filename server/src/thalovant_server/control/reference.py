# SPDX-License-Identifier: Apache-2.0
"""The API document as a page to read: plain HTML, no script, nothing loaded from anywhere.

It knows OpenAPI, not this API: what it says is what the document says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from fastapi import FastAPI, Response

from thalovant_server.control.answers import HEADERS

PATH = "/v1/docs"
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
nav ul { columns: 2; } code, pre { font: 0.9em ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.6rem; border: 1px solid #8884; border-radius: 0.4rem; }
section { border-top: 1px solid #8884; margin-top: 2rem; } table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 0.25rem 0.6rem 0.25rem 0; border-bottom: 1px solid #8882; }
.method { font-weight: 700; text-transform: uppercase; }
"""
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REF = "#/components/schemas/"


def install(app: FastAPI) -> None:
    """Have ``app`` serve the page; it is made once, when first asked for."""
    made: list[str] = []

    async def reference() -> Response:
        if not made:
            made.append(page(app.openapi()))
        headers = {**HEADERS, "content-security-policy": _POLICY, "referrer-policy": "no-referrer"}
        return Response(made[0], media_type="text/html; charset=utf-8", headers=headers)

    app.add_api_route(PATH, reference, methods=["GET"], include_in_schema=False)


def page(document: dict[str, Any]) -> str:
    """Return the whole page of an OpenAPI document."""
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    operations = [
        (method, path, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    parts = [
        "<!doctype html>", '<html lang="en">', '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{title}</h1>", _prose(info.get("description", "")),
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>',
        "<nav><ul>", *(_entry(method, path, operation) for method, path, operation in operations), "</ul></nav>",
    ]  # fmt: skip
    for tag in document.get("tags", []):
        parts.append(f"<h2>{escape(tag['name'])}</h2>{_prose(tag.get('description', ''))}")
        for method, path, operation in operations:
            if tag["name"] in operation.get("tags", []):
                parts += _operation(document, method, path, operation)
    parts.append("<h2>Shapes</h2>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts += _shape(name, schema)
    return "\n".join([*parts, "</main></body></html>"])


def _entry(method: str, path: str, operation: dict[str, Any]) -> str:
    return f'<li><a href="#{escape(operation["operationId"])}"><code>{method.upper()} {escape(path)}</code></a></li>'


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f'<section id="{escape(operation["operationId"])}">'
    yield f'<h3><span class="method">{method}</span> <code>{escape(path)}</code></h3>'
    yield _prose(operation.get("description") or operation.get("summary", ""))
    yield "<p>Needs a token.</p>" if operation.get("security") else "<p>Needs no token.</p>"
    if operation.get("parameters"):
        rows = [
            (escape(one["name"]), one["in"], _kind(one["schema"]), "yes" if one.get("required") else "")
            for one in operation["parameters"]
        ]
        yield _table(("Parameter", "In", "Type", "Required"), rows)
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h4>Request</h4><p><code>{escape(media)}</code>: {_kind(content['schema'])}</p>"
    yield "<h4>Answers</h4>"
    responses = [(status, _followed(document, answer)) for status, answer in operation["responses"].items()]
    yield _table(("Status", "Meaning", "Shape"), [_answer(*one) for one in responses])
    yield "</section>"


def _followed(document: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """An answer, or the one among the components that is meant."""
    found: dict[str, Any] = answer
    if "$ref" in answer:
        found = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return found


def _answer(status: str, answer: dict[str, Any]) -> tuple[str, str, str]:
    shapes = [
        f"<code>{escape(media)}</code> {_kind(content.get('schema', {}))}"
        for media, content in answer.get("content", {}).items()
    ]
    return escape(status), _inline(answer.get("description", "")), "<br>".join(shapes)


def _shape(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f'<section id="{escape(name)}"><h3>{escape(name)}</h3>{_prose(schema.get("description", ""))}'
    required = schema.get("required", ())
    rows = [
        (escape(member), _kind(inner), "yes" if member in required else "", _inline(inner.get("description", "")))
        for member, inner in schema.get("properties", {}).items()
    ]
    if rows:
        yield _table(("Member", "Type", "Always", "Meaning"), rows)
    for example in schema.get("examples", []):
        yield f"<pre>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"
    yield "</section>"


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words, with links to those that have a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(_REF))
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return escape(str(schema.get("type", "anything")))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are HTML already."""
    heading = "".join(f'<th scope="col">{one}</th>' for one in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph.strip())


def _inline(text: str) -> str:
    """Text with `code` in it; everything else stays text."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
