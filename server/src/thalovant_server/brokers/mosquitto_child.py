# SPDX-License-Identifier: Apache-2.0
"""Mosquitto as a child of the server: started with it, started again when it dies, ended with it, also by `kill -9`.

Its files are below one directory, its log goes into ours, its certificate is renewed in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from thalovant_server.backoff import Backoff
from thalovant_server.brokers import mosquitto_files
from thalovant_server.brokers.mosquitto_files import Wanted, Written
from thalovant_server.brokers.mosquitto_installed import Installed
from thalovant_server.brokers.names import BrokerAddress, Namespace
from thalovant_server.brokers.site import BrokerSite
from thalovant_server.certificates import LOOPBACK_HOSTS
from thalovant_server.errors import SettingsError, ThalovantServerError
from thalovant_server.hub.clock import LoopClock
from thalovant_server.repeats import Line, Repeats, Told
from thalovant_server.settings import BROKER_USER, Settings
from thalovant_server.wall_clock import now

log = structlog.get_logger("thalovant.mosquitto")

START_SECONDS = 20.0
STOP_SECONDS = 5.0  # for it to write what it knows to the disk
ASK_AGAIN_SECONDS = 0.2
PORT_SECONDS = 3.0  # for the Mosquitto of a server that was killed to let go of the port
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # before it is started again; jittered
STEADY_SECONDS = 60.0  # after which a death is a first one again
LOOK_SECONDS = 3600.0  # between two looks whether its certificate is due

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - to dial, not to listen
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
_LINE = re.compile(r"(?:\d{4}-\d\d-\d\dT[\d:]{8}: )?(?:(Error|Warning): )?(.*)")
_COMMAND = "dynsec: "  # of an administrator, with the access key that it is about
_NAME = re.compile(r"(?<![\w./-])[\w-]{16,}(?![\w/-]|\.\w)")  # of a client, which at this broker is its access key
_IN_USE = "Address already in use"
# Ends it when the pipe is shut, which is when the server has gone, however it went. A stopped one has to wake first.
# It is asked again and again, as `_terminate` does, and at last not asked any more.
_WATCH = (
    "read -r _; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do "
    'kill -TERM "$1" && kill -CONT "$1" || exit 0; sleep 0.2; done; kill -KILL "$1"'
)


@dataclass(frozen=True, slots=True)
class ChildState:
    """How it is. `since`: microseconds since 1970; `fault`: why it is not up, for people; `restarts` of the child."""

    is_up: bool
    since: int
    fault: str = ""
    restarts: int = 0


class MosquittoChild:
    """One Mosquitto, for as long as the server runs.

    Args:
        wanted: where it listens and keeps its files; port 0 takes a free one.
        installed: the program.
    """

    def __init__(self, wanted: Wanted, installed: Installed) -> None:
        self._wanted = replace(wanted, says_all=True)  # "running" is among it
        self._installed = installed
        self._written: Written | None = None
        self._process: Process | None = None
        self._watcher: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._last_words: deque[str] = deque(maxlen=10)
        self._is_running = asyncio.Event()
        self._wake = asyncio.Event()
        self._renew_now = False
        self._said = Repeats[tuple[str, str]](LoopClock(), _tell)
        self.state = ChildState(False, now())

    @property
    def port(self) -> int:
        """Where it listens, once it was started."""
        return self._wanted.port

    @property
    def pid(self) -> int | None:
        """Its process id; None while it is down."""
        return self._process.pid if self._process is not None and self.state.is_up else None

    async def start(self) -> None:
        """Write its files, start it, return once it accepts.

        Raises:
            SettingsError: it does not start; says why and what to do.
            DataDirectoryError: its files cannot be used.
        """
        if not self._wanted.port:
            self._wanted = replace(self._wanted, port=await _free_port(self._wanted.listen_host))
        await self._write()
        try:
            await self._launch_patiently()
        except BaseException:
            await self._end()
            raise
        self._keeper = asyncio.create_task(self._keep(), name="mosquitto")

    async def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self._end()
        self._said.close()

    def look(self) -> None:
        """See now whether its certificate is due, and have it read its files again."""
        self._renew_now = True
        self._wake.set()

    # Inside

    async def _keep(self) -> None:
        """Start it again whenever it dies, renew its certificate in time; for ever."""
        loop, backoff = asyncio.get_running_loop(), Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            began = loop.time()
            code = await self._ended()
            if loop.time() - began > STEADY_SECONDS:
                backoff.reset()
            self._down(f"Mosquitto ended ({_in_words(code)}) and is started again")
            while not self.state.is_up:
                pause = backoff.next()
                log.error("broker_is_down", fault=self.state.fault, again_in=round(pause, 1))
                await asyncio.sleep(pause)
                await self._start_again()

    async def _start_again(self) -> None:
        restarts = self.state.restarts + 1
        try:
            await self._write()
            await self._launch()
        except ThalovantServerError as error:
            await self._end()
            self._down(error.sentence)
        else:
            self.state = replace(self.state, restarts=restarts)

    async def _ended(self) -> int:
        """Wait until it ends, with a look at its certificate now and then; return its exit code."""
        assert self._process is not None  # noqa: S101 - started just now
        ended = asyncio.ensure_future(self._process.wait())
        try:
            while True:
                woken = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait([ended, woken], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                self._wake.clear()
                if ended.done():
                    break
                await self._renew()
        finally:
            ended.cancel()
        code = ended.result()
        await self._end()
        return code

    async def _renew(self) -> None:
        asked, self._renew_now = self._renew_now, False
        written = self._written
        if not asked and written is not None and datetime.datetime.now(datetime.UTC) < written.due:
            return
        try:
            await self._write()
        except ThalovantServerError as error:
            log.error("broker_certificate_kept", mend=error.sentence)  # noqa: TRY400 - a sentence
            return
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has just died: it reads them when it starts again
                self._process.send_signal(signal.SIGHUP)

    async def _write(self) -> None:
        self._written = await asyncio.to_thread(mosquitto_files.write, self._wanted, self._installed.plugin)
        if self._written.renewed:
            log.info("broker_certificate", names=", ".join(("localhost", *self._written.names)))

    async def _launch_patiently(self) -> None:
        """A server that was killed has its Mosquitto end just now: wait for the port."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PORT_SECONDS
        while True:
            try:
                return await self._launch()
            except SettingsError:
                if not self._is_in_use() or loop.time() > until:
                    raise
            await self._end()
            await asyncio.sleep(0.2)

    async def _launch(self) -> None:
        """Start the program and its watcher; return once it accepts."""
        self._last_words.clear()
        self._is_running.clear()
        try:
            process = await self._spawn()
        except OSError as error:
            raise SettingsError(
                f"Mosquitto ({self._installed.program}) cannot be run: {error.strerror or error}. See that it is still "
                "installed, and that this machine has room for one more process"
            ) from error
        self._reader = asyncio.create_task(self._read(process), name="mosquitto-log")
        running = asyncio.ensure_future(self._is_running.wait())
        await asyncio.wait([running, self._reader], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        if not self._is_running.is_set():
            raise self._fault()
        self.state = replace(self.state, is_up=True, since=now(), fault="")
        log.info("broker_is_up", port=self._wanted.port, pid=process.pid)

    async def _spawn(self) -> Process:
        """Start both; of the two the watcher may be what there is no room for."""
        command = [str(self._installed.program), "-c", str(self._wanted.directory / mosquitto_files.CONFIGURATION)]
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # In a session of its own: Ctrl-C is for the server, which ends it once the hubs have said goodbye.
        process = self._process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=environment, start_new_session=True
        )
        self._watcher = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", _WATCH, "sh", str(process.pid),
            stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, env={}, start_new_session=True,
        )  # fmt: skip
        return process

    async def _read(self, process: Process) -> None:
        """Fold its log into ours, until it ends."""
        assert process.stderr is not None  # noqa: S101 - asked for
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than any line of it should be; the reader has dropped it
                continue
            if not line:
                return
            self._take(line.decode("utf-8", "replace").rstrip())

    def _take(self, line: str) -> None:
        found = _LINE.fullmatch(line)
        level, text = (found[1] or "Info", found[2]) if found else ("Info", line)
        if text.startswith(_COMMAND):
            return  # the provisioner says what it does, without secrets
        text = _NAME.sub("…", text)
        self._last_words.append(text)
        # Whoever dials it can make it write: the same words are told once a minute, and how often.
        self._said.note((level, text), "", (level.lower(), text))
        if text.endswith(" running"):
            self._is_running.set()

    def _fault(self) -> SettingsError:
        if self._is_in_use():
            where = f"port {self._wanted.port} of {self._wanted.listen_host}"
            return SettingsError(
                f"Mosquitto cannot listen on {where}: another program listens there. Stop that program, or choose "
                "another port with --broker-port"
            )
        said = "; ".join(self._last_words) or "nothing"
        return SettingsError(f"Mosquitto ({self._installed.program}) does not start. It said: {said}")

    def _is_in_use(self) -> bool:
        return any(_IN_USE in text for text in self._last_words)

    def _down(self, fault: str) -> None:
        since = now() if self.state.is_up else self.state.since
        self.state = replace(self.state, is_up=False, since=since, fault=fault)

    async def _end(self) -> None:
        """End what runs of it, the watcher last: from then on nobody knows its process id."""
        process, self._process = self._process, None
        if process is not None:
            await _terminate(process)
        if self._reader is not None:
            await asyncio.wait([self._reader])
            self._reader = None
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            with contextlib.suppress(ProcessLookupError):
                watcher.kill()
            await watcher.wait()


async def _terminate(process: Process) -> None:
    """Ask it to end, again and again: in the moment in which it says that it runs it forgets the first time."""
    until = asyncio.get_running_loop().time() + STOP_SECONDS
    while process.returncode is None:
        is_late = asyncio.get_running_loop().time() > until
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            process.send_signal(signal.SIGKILL if is_late else signal.SIGTERM)
            async with asyncio.timeout(ASK_AGAIN_SECONDS):
                await process.wait()


def _tell(line: Line[tuple[str, str]]) -> None:
    level, text = line.item
    say = {"error": log.error, "warning": log.warning}.get(level, log.info)
    if line.told is Told.ONCE:
        say("broker_said", text=text)
    else:
        say("broker_said_more", text=text, times=line.times)


def _in_words(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


async def _free_port(host: str) -> int:
    """A port that is free just now: Mosquitto cannot be asked for one and tell which it took."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


def wanted_of(settings: Settings, folder: Path) -> Wanted:
    """Return where the server's own broker listens: where the server does, on a port of its own."""
    dialled = _dialled(settings)
    own = () if dialled in LOOPBACK_HOSTS else (dialled,)
    names = tuple(dict.fromkeys((*settings.public_host, *own)))
    return Wanted(folder, settings.listen_host, settings.broker_port, names)


def site_of(settings: Settings, wanted: Wanted, port: int) -> BrokerSite:
    """Return how the server joins its own broker, once its port is known."""
    return BrokerSite(
        BrokerAddress(_dialled(settings), port),
        str(BrokerAddress(settings.advertised_host, port)),
        Namespace(settings.broker_root),
        BROKER_USER,
        wanted.directory / mosquitto_files.ADMIN_PASSWORD,
        wanted.directory / mosquitto_files.AUTHORITY,
    )


def _dialled(settings: Settings) -> str:
    """The address by which the server reaches it: the one that it listens on."""
    return _EVERYWHERE.get(settings.listen_host, settings.listen_host)
