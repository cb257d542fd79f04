# SPDX-License-Identifier: Apache-2.0
"""The bounds of the data plane, each with its reason (architecture decision 11).

It will not enforce them: each layer takes the number that concerns it. One object is made at start and shared.
"""

from dataclasses import dataclass

from thalovant_server.directory import DEFAULT_MAX_MESSAGE

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in seconds, bytes and counts. Tests pass smaller ones."""

    # A handshake needs three small messages and at most a stretched key; longer is a stall or an attack.
    handshake_seconds: float = 20.0
    # A request's head is some hundred bytes; 16 KiB leaves room for proxies' headers.
    head_bytes: int = 16 * KIB
    head_seconds: float = 20.0
    # TLS is four flights; a socket that has not finished by then is half open.
    tls_seconds: float = 20.0
    # A published poller asks every 100 ms; a browser or script deserves a reusable connection for a while.
    keep_alive_seconds: float = 75.0
    # Sockets on the API port; beyond it a newcomer is closed, so that descriptors are left for the rest.
    connections: int = 20_000

    # One credential is one device or program. Its unfinished sessions are bounded apart from its ready ones:
    # whoever knows only the access key cannot displace a session that knows the password. A ready session above
    # the bound displaces the one of its own that was silent longest: mostly a link that died unnoticed.
    sessions_per_credential: int = 16
    unfinished_per_credential: int = 16
    http_unfinished_per_credential: int = 4

    # The wire's chunks are 65,017 bytes; the published SDK's own limit is 256 KiB (contract section 6.1).
    frame_bytes: int = 256 * KIB
    http_body_bytes: int = MIB
    # Hub setting `max_message` lowers or raises this per hub, up to the wire's 32 MiB.
    message_bytes: int = DEFAULT_MAX_MESSAGE
    # A message that was begun must grow: chunks follow each other at once, and a lost network is noticed by then.
    stall_seconds: float = 30.0
    # 4 MiB of JSON can be 1.4 million empty lists: 95 MB and most of a second. An ask has some dozen values.
    message_values: int = 20_000
    # Frames kept while a key is stretched: nothing of use comes then. While a pin is committed the client has proven
    # its password, and one whole message is kept beside this: its hello and its first ask.
    waiting_bytes: int = 64 * KIB
    # Everything held for clients: unfinished messages, waiting and remembered turns, unread answers.
    process_bytes: int = 256 * MIB
    # Of these, one client over all its connections: several of the longest messages and answers at once. A hub
    # that takes longer messages raises it to four of them: received, read, answered, fetched.
    client_bytes: int = 32 * MIB
    # The last of the process's bytes are for clients that hold little, as nearly all do: else eight greedy ones
    # would end everybody's asks.
    reserved_bytes: int = 64 * MIB
    little_bytes: int = MIB

    # A slow reader costs at most this; then its session ends. Must hold the longest answer once.
    out_bytes: int = 12 * MIB
    out_frames: int = 20_000
    ping_seconds: float = 30.0
    pong_seconds: float = 20.0
    close_seconds: float = 5.0
    # After a close frame that answers nonsense: long enough for it to arrive, short enough to cost nothing.
    linger_seconds: float = 0.5
    # Contract section 10.2: a session nobody polls is gone after five minutes.
    http_idle_seconds: float = 300.0
    # A request is held for frames so long at most: proxies between give up after 30 or 60 seconds.
    http_wait_seconds: float = 25.0
    # An ended session is kept so long, so that its poller hears why it ended.
    http_ended_seconds: float = 30.0
    http_body_seconds: float = 20.0
    # Signs of life: a client that answers pings or asks again is this much late at most; later, it is stale.
    late_seconds: float = 10.0
    # So soon a silence is noticed, and that it is over.
    presence_look_seconds: float = 1.0

    # Turns. A request may ask for its own deadline within these.
    turn_seconds: float = 120.0
    turn_seconds_most: float = 600.0
    turn_seconds_least: float = 0.05
    # After the deadline a client may still be redialling (its back-off reaches a minute).
    remember_seconds: float = 60.0
    turns_running: int = 8
    turns_waiting: int = 32
    turns_remembered: int = 20_000
    turns_remembered_per_client: int = 1_024
    turns_remembered_bytes: int = 64 * MIB
    # Answers kept for a client must leave it most of its share for what it asks next.
    turns_remembered_bytes_per_client: int = 8 * MIB
    # Bounded concurrency per agent, over all clients.
    agent_running: int = 256
    answer_bytes: int = 4 * MIB
    answer_parts: int = 16_384
    # The context comes back with every part, so it multiplies: a session, a site and some marks have a few KiB.
    context_bytes: int = 32 * KIB
    # Parts sent at once, more are joined; and after so many parts of a running agent everybody else has a turn.
    parts_at_once: int = 64
    # Contexts sent back while parts are streamed. Beyond it the rest of the answer comes at its end, joined: it
    # must fit beside the parts and their envelopes into `out_bytes`.
    streamed_context_bytes: int = 4 * MIB
    request_id_chars: int = 256
    user_agent_chars: int = 256
