# SPDX-License-Identifier: Apache-2.0
"""An operator's Python function as an agent: `name=python:module:function`.

The function takes `text`, or `text` and `request` (an `AgentRequest`). It may be synchronous or asynchronous, return
text or None, or yield parts. Synchronous ones run on a bounded set of threads, so a slow one delays nobody else.

It will not interrupt a thread: a synchronous function that outlives its deadline keeps its thread until it returns.
Nor is it reachable from the API: only the operator names code (architecture decision 8).
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from thalovant_server.agents.base import AgentError, AgentRequest
from thalovant_server.agents.threads import DaemonPool
from thalovant_server.errors import SettingsError

# A thread that waits costs its stack only; 64 sleeping functions leave room for the next client's ask.
THREADS = 64
# Parts a thread may be ahead of the loop; then it waits.
AHEAD = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Part:
    value: object


@dataclass(frozen=True, slots=True)
class _End:
    result: object


@dataclass(frozen=True, slots=True)
class _Fault:
    error: BaseException


class PythonAgent:
    """Wraps one function. `load` finds it by name; the constructor takes the function itself."""

    def __init__(self, name: str, function: Callable[..., Any], *, threads: int = THREADS) -> None:
        self.name = name
        self._function = function
        self._takes_request = _takes_request(name, function)
        self._asynchronous = _is_asynchronous(function)
        self._pool = DaemonPool(f"agent-{name}", threads)

    @classmethod
    def load(cls, name: str, target: str, *, threads: int = THREADS) -> PythonAgent:
        """Import `module:function`, with the working directory on the path.

        Raises:
            SettingsError: the module or the function is not there, or is not one; says which.
        """
        module_name, colon, path = target.partition(":")
        if not colon or not module_name or not path:
            raise SettingsError(f"agent {name}: {target!r} is not of the form module:function")
        found: Any = _import(name, module_name)
        for part in path.split("."):
            if not hasattr(found, part):
                raise SettingsError(f"agent {name}: the module {module_name} has no {path!r}")
            found = getattr(found, part)
        if not callable(found) or inspect.isclass(found):
            raise SettingsError(f"agent {name}: {target} is not a function")
        return cls(name, found, threads=threads)

    async def answer(self, request: AgentRequest) -> AsyncGenerator[str, None]:
        """Call the function and yield its text.

        Raises:
            AgentError: the function gave something other than text, or tried to end the process or the task.
        """
        parts = self._on_loop(request) if self._asynchronous else self._on_thread(lambda: self._call(request))
        try:
            while True:
                try:
                    part = await self._contain(anext(parts))
                except StopAsyncIteration:
                    break
                yield self._text(part)
        finally:
            await self._contain(parts.aclose())

    async def close(self) -> None:
        """Let the free threads end."""
        self._pool.close()

    def _call(self, request: AgentRequest) -> Any:
        return self._function(request.text, request) if self._takes_request else self._function(request.text)

    def _text(self, part: object) -> str:
        if not isinstance(part, str):
            raise AgentError(f"the agent {self.name} answered with {type(part).__name__}, not with text")
        return part

    async def _contain(self, step: Awaitable[T]) -> T:
        """Await one step of the function; what would end the loop or look like a cancellation is an `AgentError`."""
        try:
            return await step
        except (Exception, GeneratorExit):  # GeneratorExit: this very step is being closed
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            raise self._stray(error) from error

    def _stray(self, error: BaseException) -> AgentError:
        return AgentError(f"the agent {self.name} raised {type(error).__name__}, but it may not end the process")

    async def _on_loop(self, request: AgentRequest) -> AsyncGenerator[object, None]:
        async with aclosing(self._unfold(self._call(request))) as parts:
            async for part in parts:
                yield part

    async def _on_thread(self, call: Callable[[], Any]) -> AsyncGenerator[object, None]:
        """Make the call on a thread; its parts come over one by one, the thread at most `AHEAD` in front."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[_Part | _End | _Fault] = asyncio.Queue()
        over = asyncio.Event()
        job = _Job(call, loop.call_soon_threadsafe, inbox, over)
        self._pool.submit(job.run)
        try:
            while isinstance(item := await inbox.get(), _Part):
                yield item.value
                job.room.release()
            if isinstance(item, _Fault):
                # On a thread there is no cancellation and no closing: whatever is no `Exception` is the function's.
                raise item.error if isinstance(item.error, Exception) else self._stray(item.error)
            async with aclosing(self._unfold(item.result)) as parts:
                async for part in parts:
                    yield part
        finally:
            # Only now is the client's place free: else one client could block every thread with short deadlines.
            if job.stop():
                await over.wait()

    async def _unfold(self, result: Any) -> AsyncGenerator[object, None]:
        """The parts in what a function returned: text, None, something to await, or something to iterate."""
        if inspect.isawaitable(result):
            result = await result
        if isinstance(result, Iterator):  # its steps may block, whoever made it
            async with aclosing(self._on_thread(lambda: result)) as parts:
                async for part in parts:
                    yield part
        elif hasattr(result, "__aiter__"):
            try:
                async for part in result:
                    yield part
            finally:
                if hasattr(result, "aclose"):
                    await result.aclose()
        elif result is not None:
            yield result


class _Job:
    """What runs on the thread. It ends at the next part once it is stopped."""

    def __init__(self, call: Callable[[], Any], tell: Callable[..., object], inbox: Any, over: asyncio.Event) -> None:
        self._call = call
        self._tell = tell
        self._inbox = inbox
        self._over = over
        self._started = False
        self._stopped = False
        self.room = threading.Semaphore(AHEAD)

    def stop(self) -> bool:
        """Nobody listens any more; True when the thread may still be at it, and will set the event."""
        self._stopped = True
        self.room.release()
        return self._started

    def run(self) -> None:
        """Call the function and pass on what it gives; never raises."""
        self._started = True
        if not self._stopped:
            self._work()
        self._pass_on(self._over.set)

    def _work(self) -> None:
        outcome: _End | _Fault
        try:
            result = self._call()
            if isinstance(result, Iterator):
                self._drain(result)
                result = None
            outcome = _End(result)
        except BaseException as error:  # noqa: BLE001 - even SystemExit must not end the thread's pool
            outcome = _Fault(error)
        self._pass_on(self._inbox.put_nowait, outcome)

    def _drain(self, parts: Iterator[object]) -> None:
        for part in parts:
            self.room.acquire()
            if self._stopped:
                break
            self._pass_on(self._inbox.put_nowait, _Part(part))
        close = getattr(parts, "close", None)
        if close is not None:
            close()

    def _pass_on(self, *call: Any) -> None:
        try:
            self._tell(*call)
        except RuntimeError:  # the loop is closed: the process is going down
            self._stopped = True


def _is_asynchronous(function: Callable[..., Any]) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - an object may have an asynchronous __call__
    return any(
        inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate)
        for candidate in (function, call)
    )


def _takes_request(name: str, function: Callable[..., Any]) -> bool:
    """Whether the function wants the request too, told from its parameters alone."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions do not tell
        return False
    for arguments in (("text", "request"), ("text",)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) == 2
    raise SettingsError(f"agent {name}: the function must take (text) or (text, request), not {signature}")


def _import(name: str, module_name: str) -> Any:
    here = str(os.getcwd())  # noqa: PTH109 - sys.path holds text
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        by = "" if module_name == missing or module_name.startswith(missing + ".") else f" (needed by {module_name})"
        text = f"agent {name}: there is no module {missing}{by} in {here} or among the installed ones"
        raise SettingsError(text) from error
    except Exception as error:  # an operator's module may fail in any way while it loads
        text = f"agent {name}: the module {module_name} failed to load: {type(error).__name__}: {error}"
        raise SettingsError(text) from error
