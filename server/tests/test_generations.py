# SPDX-License-Identifier: Apache-2.0
"""No certificate names what a client that is shown it may not trust; every host is served."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.certificates import LOOPBACK_HOSTS, KeyPair, make_authority, permits, reissue_authority
from thalovant_server.generations import Generation, generations

HOSTS = ("hub.example", "new.example", "192.0.2.7", "192.0.2.8", "2001:db8::1", "sub.hub.example", "127.0.0.2")


@functools.cache
def authorities(additions: tuple[tuple[str, ...], ...]) -> tuple[KeyPair, ...]:
    """An authority as it was made, and each time it was issued for more."""
    made = [make_authority(additions[0])]
    for hosts in additions[1:]:
        made.append(reissue_authority(made[-1], hosts))
    return tuple(made)


def texts(*additions: tuple[str, ...]) -> list[str]:
    return [pair.certificate for pair in authorities(additions)]


def test_one_generation_serves_all_that_it_permits() -> None:
    hosts = ("hub.example", "192.0.2.7")
    assert generations(texts(hosts), hosts) == [Generation(1, (*LOOPBACK_HOSTS, *hosts), hosts)]


def test_a_host_is_served_by_the_earliest_generation_that_permits_it() -> None:
    chain = texts(("hub.example",), ("new.example",), ("192.0.2.7",))
    hosts = ["192.0.2.7", "new.example", "hub.example", "sub.hub.example"]
    assert generations(chain, hosts) == [
        Generation(1, (*LOOPBACK_HOSTS, "hub.example", "sub.hub.example"), ("hub.example", "sub.hub.example")),
        Generation(2, ("new.example",), ("new.example", "hub.example", "sub.hub.example")),
        Generation(3, ("192.0.2.7",), tuple(hosts)),
    ]


def test_a_generation_whose_names_are_gone_is_left_out_and_loopback_never() -> None:
    chain = texts(("hub.example",), ("new.example",), ("192.0.2.7",))
    assert [each.number for each in generations(chain, ["192.0.2.7"])] == [1, 3]
    assert generations(chain, []) == [Generation(1, LOOPBACK_HOSTS, ())]


def test_a_host_beyond_every_generation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"may not vouch for other\.example"):
        generations(texts(("hub.example",)), ["hub.example", "other.example"])


@given(
    st.lists(st.lists(st.sampled_from(HOSTS), max_size=2).map(tuple), min_size=1, max_size=3).map(tuple),
    st.lists(st.sampled_from(HOSTS)),
)
def test_whoever_may_trust_a_host_may_trust_all_names_beside_it(
    additions: tuple[tuple[str, ...], ...], hosts: list[str]
) -> None:
    chain = texts(*additions)
    hosts = [host for host in hosts if permits(chain[-1], host)]
    made = generations(chain, hosts)
    served = [host for each in made for host in each.hosts]
    assert sorted(served) == sorted({*LOOPBACK_HOSTS, *hosts}), "each once"
    for each in made:
        assert set(each.hosts) <= {*LOOPBACK_HOSTS, *each.names}
        for host in each.hosts:
            for authority in chain:
                if permits(authority, host):
                    assert all(permits(authority, name) for name in each.names)
