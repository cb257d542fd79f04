# SPDX-License-Identifier: Apache-2.0
"""Server-sent events, read from bytes as they come (WHATWG HTML, 9.2.6). No I/O.

However the bytes are cut, the events are the same. Comments, such as those that keep a connection alive, are dropped,
and so are `id` and `retry`: nothing here asks a server to go on after an event.
"""

from __future__ import annotations

from dataclasses import dataclass

from thalovant.errors import ThalovantAPIError

__all__ = ["MAX_EVENT", "EventStream", "ServerSentEvent"]

MAX_EVENT = 1 << 20
"""Bytes of one event, and of one line; an event of ours has less than a thousandth."""

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event: its name, and its data, lines joined by a line feed."""

    event: str
    data: str


class EventStream:
    """Reads one stream from its first byte on."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._after_return = False  # a line feed that comes next belongs to the line that has ended
        self._first = True
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, part: bytes) -> list[ServerSentEvent]:
        """Return the events that these bytes complete.

        Raises ThalovantAPIError for an event of more than MAX_EVENT bytes; the stream cannot be read on then.
        """
        if not part:
            return []
        part = part.removeprefix(b"\n") if self._after_return else part
        lines = part.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._after_return = part.endswith(b"\r")
        done = [self._take(self._whole(line)) for line in lines[:-1]]
        self._keep(lines[-1])
        return [event for event in done if event is not None]

    def _whole(self, rest: bytes) -> bytes:
        self._keep(rest)
        line = bytes(self._line)
        self._line.clear()
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        return line

    def _keep(self, part: bytes) -> None:
        self._line += part
        if self._size + len(self._line) > MAX_EVENT:
            raise ThalovantAPIError(f"The Thalovant API sent an event of more than {MAX_EVENT} bytes.")

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._dispatched()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(line)
        elif name == "event":
            self._event = value
        return None

    def _dispatched(self) -> ServerSentEvent | None:
        event, data = self._event or "message", self._data
        self._event, self._data, self._size = "", [], 0
        return ServerSentEvent(event, "\n".join(data)) if data else None
