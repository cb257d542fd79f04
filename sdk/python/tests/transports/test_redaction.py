# SPDX-License-Identifier: Apache-2.0
"""No authorization in any log record, whichever way it came in."""

from __future__ import annotations

import logging

from hypothesis import given
from hypothesis import strategies as st

from thalovant.addresses import authorization_query
from thalovant.transports.redaction import without_authorization


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "f", 1, message, arguments, None)


def test_the_value_is_blanked_and_the_rest_stays() -> None:
    one = record('GET %s "%s"', "https://h/x?a=1&authorization=c2VjcmV0&b=2", "200 OK")
    assert without_authorization(one)
    assert one.getMessage() == 'GET https://h/x?a=1&authorization=<redacted>&b=2 "200 OK"'


def test_other_records_are_left_alone() -> None:
    one = record("%d frames", 3)
    assert without_authorization(one)
    assert (one.msg, one.args, one.getMessage()) == ("%d frames", (3,), "3 frames")


@given(key=st.text(min_size=1), before=st.text(), after=st.text())
def test_no_key_passes(key: str, before: str, after: str) -> None:
    query = authorization_query("agent", key.encode("utf-8", "replace").decode())
    one = record("%s", f"{before}{query} {after}")
    assert without_authorization(one)
    assert query not in one.getMessage()
