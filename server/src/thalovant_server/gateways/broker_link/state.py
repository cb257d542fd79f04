# SPDX-License-Identifier: Apache-2.0
"""How it is with the link, for whoever asks: health, metrics, the log. It decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Standing = Literal["connected", "away", "refused", "another_server"]


@dataclass(frozen=True, slots=True)
class LinkState:
    """One moment of the link.

    Args:
        standing: `connected`; `away`: it is dialled again and again; `refused`: so it is, and somebody has to mend
            something; `another_server`: so it is, once that one is gone.
        since: microseconds since 1970 from which on it has been like that.
        fault: what is wrong, as the rest of a sentence about the broker; "" when connected.
        reconnects: how often the link was up again after it had been lost.
        sessions: sessions of clients on it.
        where: the broker, as `host:port`.
    """

    standing: Standing
    since: int
    fault: str
    reconnects: int
    sessions: int
    where: str
