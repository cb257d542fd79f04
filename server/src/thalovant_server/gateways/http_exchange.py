# SPDX-License-Identifier: Apache-2.0
"""`POST /exchange` (docs/wire.md): takes a client's frames, and gives it the hub's at once or when there are some.

A frame that comes a second time, because the answer to the first was lost, is not taken in again; one whose
predecessor never came is not taken in at all. What is wrong with a request changes nothing.

It will not find the session nor know how one ends (`gateways.https`).
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from thalovant.protocol.errors import ExchangeError
from thalovant.protocol.exchange import Exchange, Frame, read_exchange
from thalovant_server.gateways.lane import SLICE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalovant_server.gateways.call import Call
    from thalovant_server.gateways.http_session import HttpSession

OUT_OF_STEP = "The numbers of this exchange do not follow those of the session: connect again."


def exchange(call: Call, session: HttpSession, body: bytes, most_wait: float) -> None:
    """Serve one request of a session that lives; `most_wait`: seconds that it may be held at most."""
    try:
        asked = read_exchange(body)
    except ExchangeError as error:
        call.answer_problem(400, error.text, "malformed_exchange")
        return
    frames = _new_frames(session, asked)
    if frames is None or not session.acknowledge(asked.next):
        call.answer_problem(409, OUT_OF_STEP, "out_of_step")
        return
    session.exchanges = True
    session.taken += len(frames)
    if asked.again:
        session.rewind()
    if session.connection is not None:
        session.connection.touch()
    wait = min(asked.wait / 1000, most_wait)
    session.hold(call, wait)  # before its frames are read: they may end the session, and it must hear of that
    _take_in(session, frames)
    if wait <= 0 or len(session):
        session.release(call)


def _new_frames(session: HttpSession, asked: Exchange) -> Sequence[Frame] | None:
    """The frames that are not known yet; None when those before them never came."""
    if not asked.frames:
        return ()
    known = session.taken - asked.first
    return None if known < 0 else asked.frames[known:]


def _take_in(session: HttpSession, frames: Sequence[Frame]) -> None:
    """Read as many frames as a slice of the lane has, and keep the rest for the turns that follow."""
    waiting = bool(session.inbox)
    rest = (*session.inbox, *frames) if waiting else _read(session, frames)
    if session.keep_inbox(rest) and rest and not waiting:
        session.lane.wait(partial(_go_on, session))


def _go_on(session: HttpSession) -> None:
    rest = _read(session, session.inbox)
    if session.keep_inbox(rest) and rest:
        session.lane.wait(partial(_go_on, session))


def _read(session: HttpSession, frames: Sequence[Frame]) -> Sequence[Frame]:
    """Hand a slice of frames to the hub; returns those that are left. None are once the session has ended."""
    connection, most, until, done = session.connection, session.lane.allowance(), 0.0, 0
    for sealed, data in frames[:most]:
        if connection is None or session.ended is not None:
            return ()
        (connection.receive_sealed if sealed else connection.receive_clear)(data)
        done += 1
        now = monotonic()
        until = until or now + SLICE_SECONDS
        if now >= until:
            break
    session.lane.spend(done)
    return frames[done:] if session.ended is None else ()
