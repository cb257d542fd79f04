# SPDX-License-Identifier: Apache-2.0
"""What stays open at an outside broker, and what to do: one text a gap, however many moves went through it."""

from __future__ import annotations

from collections.abc import Iterable

from thalovant_server.isolation.moves import Gap
from thalovant_server.isolation.verdicts import BROKER, Outcome, Verdict

_WHAT_TO_DO = {
    Gap.CLIENT_ID: (
        "Whoever may connect can throw another client out by using its MQTT client id. Nothing is read or said by "
        "that, and the client comes back. Set `use_username_as_clientid true` for that listener of Mosquitto; where "
        "two devices share a user name, leave it and know of it."
    ),
    Gap.TOPICS: (
        "Clients hear or speak where they have no right to: something beside this server's roles lets them. At "
        "Mosquitto see that `mosquitto_ctrl dynsec getDefaultACLAccess` denies all four kinds, and look at the "
        "anonymous group and at lines of an ACL file that cover the hubs' topics. What is said stays sealed between "
        "client and hub."
    ),
    Gap.LOGIN: (
        "Somebody is let in without the right password: turn `allow_anonymous` off, and every plugin and password file "
        "that says yes to a user name of this server."
    ),
    Gap.SIZE: "The broker did not stand 64 KiB in a CONNECT: set `max_packet_size`, or take a newer one.",
    Gap.ENDED: (
        "A credential that was taken away still works there: `thalovant-server health` says whether the server may "
        "administer the broker."
    ),
}


def findings(outcomes: Iterable[Outcome]) -> list[str]:
    """What worked at an outside broker, with what to do, each gap once; none for the server's own endpoint."""
    gaps = dict.fromkeys(each.gap for each in outcomes if each.verdict is Verdict.WORKED and each.road == BROKER)
    return [_WHAT_TO_DO[gap] for gap in gaps]
