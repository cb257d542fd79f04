# SPDX-License-Identifier: Apache-2.0
"""A Mosquitto with the dynamic-security plugin, told who may connect. Its words are `dynamic_security`'s to know.

The connection is opened when something is to be said, and kept for a while. A user of ours is known by its text name,
which is its role's; any other one is left alone, whatever it is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from thalovant_server.broker_socket import BrokerTarget
from thalovant_server.brokers.admin_connection import AdminConnection
from thalovant_server.brokers.base import Account, Capabilities, Ensured, Grants, ListedUser, Listing, Secret
from thalovant_server.brokers.dynamic_security import (
    EXISTS,
    GONE,
    KINDS,
    AnswerError,
    Command,
    Kind,
    Response,
    User,
    acls_of,
    grants_of,
    read_defaults,
    read_page,
    read_role,
    read_user,
)
from thalovant_server.brokers.names import Namespace
from thalovant_server.errors import AccountRefusedError, BrokerAwayError, BrokerRefusedError

IDLE_SECONDS = 90.0  # longer than the usual period of checks
PAGE = 50  # users or roles: the broker does nothing else while it writes a page, and we nothing while we read it

_DEFAULTS = Command("getDefaultACLAccess")
_T = TypeVar("_T")


class Mosquitto:
    """One Mosquitto.

    Args:
        target: where it is.
        user: who may administer it.
        password: of that user.
        namespace: what is ours there.
        is_ours: nobody else uses it: what it allows to everybody may be changed.
        idle_seconds: how long the connection is kept when nothing is said.
    """

    def __init__(
        self,
        target: BrokerTarget,
        user: str,
        password: Secret,
        namespace: Namespace,
        *,
        is_ours: bool = False,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.capabilities = Capabilities(kicks=True, one_connection_per_user=True if is_ours else None)
        self.findings: tuple[str, ...] = ()
        self._target = target
        self._user = user
        self._password = password
        self._namespace = namespace
        self._is_ours = is_ours
        self._idle_seconds = idle_seconds
        self._open_kinds: frozenset[Kind] = frozenset()
        self._lock = asyncio.Lock()
        self._connection: AdminConnection | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    # -- what a broker does

    async def check(self) -> None:
        """See that we may administer it, and what it allows to everybody: ours is closed, another one left as it is."""
        (response,) = await self._ask(_DEFAULTS)
        self._insist(response)
        self._open_kinds = self._read(read_defaults, response)
        if self._is_ours and self._open_kinds:
            lines = [{"acltype": kind, "allow": False} for kind in KINDS]
            self._insist(*await self._ask(Command("setDefaultACLAccess", {"acls": lines})))
            self._open_kinds = frozenset()
        self.findings = (_finding(self._open_kinds),) if self._open_kinds else ()

    async def ensure(self, account: Account, password: Secret, *, resets_password: bool = False) -> Ensured:
        """Have exactly this account. One that is there is looked at, and what is wrong with it is changed."""
        responses = await self._ask(self._create_role(account), _create_user(account, password))
        if all(each.error is None for each in responses):
            return "made"
        self._refuse(*responses, but=EXISTS)
        role, user = await self._look(account)
        if user is not None and not self._is_ours_for(user, account.role):
            await self._take_back(account, responses)
            raise AccountRefusedError(
                self._where,
                "has a user of the same name already, who is not ours: give that client another access key",
            )
        wanting = self._wanting(account, password, role, user, resets_password=resets_password)
        if wanting:
            self._refuse(*await self._ask(*wanting))
        is_new = any(each.error is None for each in responses)
        return "mended" if wanting or is_new else "there"

    async def remove(self, user: str, role: str) -> None:
        """Have this user no longer."""
        if await self._may_remove(user, role):
            self._refuse(*await self._ask(Command("deleteClient", {"username": user})), but=GONE)

    async def remove_role(self, role: str) -> None:
        """Have a role of ours no longer. Mosquitto 2.0.11 dies, sooner or later, of one that a user still had."""
        if self._namespace.owns(role):
            self._refuse(*await self._ask(Command("deleteRole", {"rolename": role})), but=GONE)

    async def kick(self, user: str) -> None:
        """End the user's connection: it is kept out for a moment."""
        named = {"username": user}
        self._refuse(*await self._ask(Command("disableClient", named), Command("enableClient", named)), but=GONE)

    async def list(self) -> Listing:
        """Return all users and roles of ours, page by page: other commands may come between."""
        roles = dict([each async for each in self._pages("roles", self._listed_role) if each is not None])
        users = [each async for each in self._pages("clients", self._listed_user) if each is not None]
        return Listing(users, roles)

    async def read_retained(self, topic: str, seconds: float) -> bytes | None:
        """Return the retained message of a topic."""
        async with self._lock:
            connection = await self._connected()
            try:
                return await connection.retained(topic, seconds, _DEFAULTS)
            finally:
                self._rest()

    async def close(self) -> None:
        """Let go of the connection."""
        if self._idle is not None:
            self._idle.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        await asyncio.gather(*self._closing)

    # -- one account

    def _create_role(self, account: Account) -> Command:
        return Command("createRole", {"rolename": account.role, "acls": acls_of(account.grants, self._open_kinds)})

    async def _look(self, account: Account) -> tuple[Grants | None, User | None]:
        """The grants of the account's role, and its user, as they are."""
        role, user = await self._ask(
            Command("getRole", {"rolename": account.role}), Command("getClient", {"username": account.user})
        )
        self._refuse(role, user, but=GONE)
        grants = None
        if role.error is None:
            _, acls = self._read(lambda said: read_role(said.data.get("role")), role)
            grants = grants_of(acls, self._open_kinds)
        return grants, None if user.error else self._read(_user_of, user)

    def _wanting(
        self,
        account: Account,
        password: Secret,
        grants: Grants | None,
        user: User | None,
        *,
        resets_password: bool,
    ) -> Sequence[Command]:
        """What makes the account right."""
        commands = []
        named = {"username": account.user}
        if grants != account.grants:
            fields = self._create_role(account).fields
            commands.append(Command("modifyRole", fields))
        if user is None:
            commands.append(_create_user(account, password))
        elif resets_password or not _is_plain(user, account.role):
            fields = {**_create_user(account, password).fields, "groups": []}
            commands.append(Command("modifyClient", fields))
        if user is not None and not user.enabled:
            commands.append(Command("enableClient", named))
        return commands

    async def _take_back(self, account: Account, responses: Sequence[Response]) -> None:
        """Leave no role behind of an account that cannot be made."""
        if responses[0].error is None:
            await self._ask(Command("deleteRole", {"rolename": account.role}))

    async def _may_remove(self, user: str, role: str) -> bool:
        (response,) = await self._ask(Command("getClient", {"username": user}))
        self._refuse(response, but=GONE)
        return response.error is None and self._is_ours_for(self._read(_user_of, response), role)

    def _is_ours_for(self, user: User, role: str) -> bool:
        return self._namespace.owns(user.text_name) or role in user.roles

    # -- all accounts

    async def _pages(self, items: Literal["roles", "clients"], read: Callable[[Any], _T]) -> Any:
        name, offset, total = f"list{items.capitalize()}", 0, 1
        while offset < total:
            fields = {"verbose": True, "count": PAGE, "offset": offset}
            (response,) = await self._ask(Command(name, fields))
            self._insist(response)
            page, total = self._read(lambda said: read_page(said, items), response)
            for each in page:
                yield self._read(read, each)
            if not page:
                return
            offset += len(page)

    def _listed_role(self, said: Any) -> tuple[str, Grants | None] | None:
        name, acls = read_role(said)
        return (name, grants_of(acls, self._open_kinds)) if self._namespace.owns(name) else None

    def _listed_user(self, said: Any) -> ListedUser | None:
        user = read_user(said)
        mark = user.text_name if self._namespace.owns(user.text_name) else None
        roles = frozenset(filter(self._namespace.owns, user.roles))
        if mark is None and not roles:
            return None
        return ListedUser(user.name, mark, roles, len(roles) == len(user.roles) and not user.in_groups, user.enabled)

    # -- the connection

    @property
    def _where(self) -> str:
        return self._target.address.where

    async def _ask(self, *commands: Command) -> tuple[Response, ...]:
        async with self._lock:
            connection = await self._connected()
            try:
                return await connection.ask(commands)
            finally:
                self._rest()

    async def _connected(self) -> AdminConnection:
        if self._idle is not None:
            self._idle.cancel()
        if self._connection is None or self._connection.is_over:
            self._connection = None
            self._connection = await AdminConnection.open(self._target, self._user, self._password)
        return self._connection

    def _rest(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._let_go)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            task = asyncio.create_task(connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _read(self, read: Callable[[Any], _T], said: Any) -> _T:
        try:
            return read(said)
        except AnswerError as error:
            raise BrokerAwayError(self._where, f"sent an answer that cannot be understood: {error}") from error

    def _refuse(self, *responses: Response, but: frozenset[str] = frozenset()) -> None:
        """Raise what the plugin will not do for one account."""
        for each in responses:
            if each.error is not None and each.error not in but:
                raise AccountRefusedError(self._where, _will_not(each))

    def _insist(self, *responses: Response) -> None:
        """Raise what the plugin will not do at all."""
        for each in responses:
            if each.error is not None:
                raise BrokerRefusedError(self._where, _will_not(each))


def _will_not(response: Response) -> str:
    return f'does not do "{response.command}": {response.error}. See that it is Mosquitto 2.0.11 or newer'


def _create_user(account: Account, password: Secret) -> Command:
    fields = {
        "username": account.user,
        "password": password.text,
        "textname": account.role,
        "roles": [{"rolename": account.role}],
    }
    return Command("createClient", fields)


def _user_of(response: Response) -> User:
    return read_user(response.data.get("client"))


def _is_plain(user: User, role: str) -> bool:
    """Whether it is as we make it: this one role, no group, our mark."""
    return user.roles == (role,) and not user.in_groups and user.text_name == role


_IN_WORDS: Mapping[Kind, str] = {
    "publishClientSend": "publish",
    "publishClientReceive": "receive",
    "subscribe": "subscribe",
    "unsubscribe": "unsubscribe",
}


def _finding(kinds: frozenset[Kind]) -> str:
    words = ", ".join(_IN_WORDS[kind] for kind in KINDS if kind in kinds)
    left = ", but for publishing to topics that begin with $ and are not the broker's own"
    return (
        f"allows everybody by default to {words}, which we deny our clients one by one"
        f"{left if 'publishClientSend' in kinds else ''}: deny it by default there, if nobody needs it "
        "(mosquitto_ctrl dynsec setDefaultACLAccess)"
    )
