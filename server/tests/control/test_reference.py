# SPDX-License-Identifier: Apache-2.0
"""The reference page: all of the document, nothing that runs, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser

from thalovant_server.control.reference import page
from thalovant_server.testing.control import World

InWorld = Callable[[Callable[[World], Awaitable[None]]], None]
VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Collects what a browser would see, and minds that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.links += [values["href"]] if values.get("href") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_tells_of_every_operation_and_shape(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        document = (await world.call("GET", "/v1/openapi.json", token=None)).json()
        answer = await world.call("GET", "/v1/docs", token=None)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        seen = Reader(answer.text)
        assert not seen.open
        operations = {one["operationId"] for item in document["paths"].values() for one in item.values()}
        assert operations | set(document["components"]["schemas"]) == set(seen.ids)
        assert len(seen.ids) == len(set(seen.ids))
        assert {link.removeprefix("#") for link in seen.links if link.startswith("#")} <= set(seen.ids)
        said = " ".join(seen.text)
        assert all(path in said for path in document["paths"])

    in_world(scenario)


def test_nothing_runs_and_nothing_is_loaded(in_world: InWorld) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("GET", "/v1/docs", token=None)
        seen = Reader(answer.text)
        assert not seen.tags & {"script", "img", "link", "iframe", "form", "object"}
        assert not [link for link in seen.links if not link.startswith("#") and link != "openapi.json"]
        policy = answer.headers["content-security-policy"]
        (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy

    in_world(scenario)


def test_what_the_document_says_stays_text() -> None:
    evil = "<script>alert(1)</script>"
    schema = {"description": evil, "properties": {evil: {"type": "string", "description": f"`{evil}`"}}}
    document = {
        "info": {"title": evil, "version": evil, "description": evil},
        "paths": {f"/{evil}": {"get": {"operationId": "x", "tags": ["t"], "summary": evil, "responses": {}}}},
        "tags": [{"name": "t", "description": evil}],
        "components": {"schemas": {"S": {**schema, "examples": [evil]}}},
    }
    seen = Reader(page(document))
    assert "script" not in seen.tags
    assert not seen.open
