# SPDX-License-Identifier: Apache-2.0
"""People's passwords: PHC strings of the stated cost, checked off the loop, bounded."""

from __future__ import annotations

import uvloop

from thalovant_server.control.passwords import Cost, PasswordHasher

CHEAP = Cost(iterations=1, lanes=1, memory_kib=8)


def test_a_password_fits_its_own_string_only() -> None:
    async def main() -> None:
        hasher = PasswordHasher(CHEAP)
        phc = hasher.derive("pässword")
        assert await hasher.verify("pässword", phc)
        assert not await hasher.verify("password", phc)
        assert not await hasher.verify("pässword", None)
        assert not await hasher.verify("pässword", "no phc string")
        assert phc != hasher.derive("pässword")
        hasher.close()

    uvloop.run(main())


def test_the_production_cost_is_argon2id_with_64_mib() -> None:
    hasher = PasswordHasher()
    assert hasher.derive("x").startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert hasher._nobody.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    hasher.close()
