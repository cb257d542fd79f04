# SPDX-License-Identifier: Apache-2.0
"""Hosts with addresses, links and routes of their own within one Linux machine, for tests, ours and yours.

::

    with Network() as network:
        hub, edge = network.host("hub"), network.host("edge")
        cable = network.cable(hub, "10.9.1.1/24", edge, "10.9.1.2/24")
        edge.start(["thalovant", "ask", ...])
        cable.pull()

Each host is a network namespace that ends with the block, or with this process. Root is not needed where the system
lets a user have namespaces. `ip` (iproute2) and `unshare`, `nsenter` (util-linux) are; `nft` only for firewalls.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

TOOLS = ("ip", "unshare", "nsenter")
SYSTEM_FOLDERS = "/usr/sbin:/sbin"  # where `ip` and `nft` live, and where a user's PATH often does not look


class Network:
    """The hosts and cables of one test. Hosts of two networks never meet.

    Raises:
        RuntimeError: a tool is missing, or this system lets nobody make namespaces; says which line to type.
    """

    def __init__(self) -> None:
        self.path = f"{os.environ['PATH']}:{SYSTEM_FOLDERS}"
        self.hosts: list[Host] = []
        self._cables = 0
        self._root = os.geteuid() == 0
        for tool in TOOLS:
            if shutil.which(tool, path=self.path) is None:
                raise RuntimeError(f"{tool} is missing. Debian: apt-get install iproute2 util-linux nftables")

    def host(self, name: str) -> Host:
        """A new host: loopback is up, nothing else is there."""
        outside = self.hosts[0].inside if self.hosts and not self._root else []
        user = [] if self._root or self.hosts else ["--user", "--map-root-user"]
        host = Host(self, name, [*outside, "unshare", *user, "--net"], own_user=not self._root)
        self.hosts.append(host)
        host.run("ip", "link", "set", "lo", "up")
        return host

    def cable(self, one: Host, one_address: str, other: Host, other_address: str) -> Cable:
        """A link between two hosts, up, with an address of its own at each end (`10.9.1.1/24`)."""
        self._cables += 1
        near, far = f"to-{other.name}"[:12] + str(self._cables), f"to-{one.name}"[:12] + str(self._cables)
        one.run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", str(other.pid))
        for host, device, address in ((one, near, one_address), (other, far, other_address)):
            host.run("ip", "address", "add", address, "dev", device)
            host.run("ip", "link", "set", device, "up")
        return Cable(one, near, other, far)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in reversed(self.hosts):
            host.end()


class Host:
    """One network namespace. `inside` is what a command is prefixed with to run there."""

    def __init__(self, network: Network, name: str, unshare: list[str], *, own_user: bool) -> None:
        self.name = name
        self._environment = {**os.environ, "PATH": network.path}
        # It ends with its standard input, so that nothing outlives a killed test.
        self._holder = subprocess.Popen(  # noqa: S603 - our own words
            [*unshare, "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._environment,
        )  # fmt: skip
        assert self._holder.stdout is not None  # noqa: S101 - a pipe was asked for
        said = self._holder.stdout.readline().decode().strip()
        if said != "ready":
            self.end()
            raise RuntimeError(f"No network namespace can be made here ({said}). Run the tests as root.")
        entering = ["-U", "--preserve-credentials"] if own_user else []
        self.inside = ["nsenter", "-t", str(self.pid), *entering, "-n"]

    @property
    def pid(self) -> int:
        """The process that holds the namespace."""
        return self._holder.pid

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a command there, with `text` on its standard input; return what it wrote.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        done = subprocess.run(  # noqa: S603 - the test's own words
            [*self.inside, *command], input=text, text=True, capture_output=True, env=self._environment, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program there; options as those of `subprocess.Popen`."""
        return subprocess.Popen([*self.inside, *command], **options)  # noqa: S603 - the test's own words

    def route(self, target: str, via: str) -> None:
        """Send what is for `target` (`default` or a network) to the neighbour `via`."""
        self.run("ip", "route", "replace", target, "via", via)

    def forward(self) -> None:
        """Be a router."""
        self.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def firewall(self, rules: str) -> None:
        """Load rules in nftables' language, in place of those before."""
        self.run("nft", "-f", "-", text=f"flush ruleset\n{rules}")

    def end(self) -> None:
        """Remove the host; what runs there loses its network."""
        self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe is not None:
                pipe.close()


class Cable:
    """A link that can be pulled out and put back; the far end keeps its addresses and routes, as a machine does."""

    def __init__(self, one: Host, near: str, other: Host, far: str) -> None:
        self._one = one
        self.near = near
        self._other = other
        self.far = far

    def pull(self) -> None:
        """Nothing passes any more, and nobody is told: the far end sees its carrier go, no connection is reset."""
        self._one.run("ip", "link", "set", self.near, "down")

    def put_back(self) -> None:
        """The link is there again. A route through it on the near side has to be made anew."""
        self._one.run("ip", "link", "set", self.near, "up")
