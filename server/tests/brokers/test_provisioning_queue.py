# SPDX-License-Identifier: Apache-2.0
"""The queue against a list that keeps every wish: what comes out is removals, then new ones, then repairs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from thalovant_server.brokers.provisioning_queue import Job, ProvisioningQueue

NUMBERS = st.integers(0, 4)
ORDER = ["remove", "make", "repair", "orphan"]


def user(number: int) -> str:
    return f"user-{number}"


def role(number: int) -> str:
    return f"role-{number}"


def drained(queue: ProvisioningQueue) -> list[Job]:
    found = []
    while (job := queue.take()) is not None:
        found.append(job)
    return found


def test_removals_go_first_then_new_accounts_then_repairs_each_oldest_first() -> None:
    queue = ProvisioningQueue()
    queue.orphan("role-9")
    for number in (0, 1):
        queue.repair(user(number), role(number))
    for number in (2, 3):
        queue.make(user(number), role(number))
    for number in (4, 5):
        queue.remove(user(number), role(number))
    assert [(each.kind, each.role) for each in drained(queue)] == [
        ("remove", "role-4"), ("remove", "role-5"), ("make", "role-2"), ("make", "role-3"), ("repair", "role-0"),
        ("repair", "role-1"), ("orphan", "role-9"),
    ]  # fmt: skip


def test_a_new_account_that_waits_is_not_put_behind_by_a_repair() -> None:
    queue = ProvisioningQueue()
    queue.make("u", "r")
    queue.repair("u", "r")
    assert drained(queue) == [Job("make", "u", "r")]


def test_a_user_whose_name_came_back_with_another_role_is_removed_first() -> None:
    queue = ProvisioningQueue()
    queue.remove("u", "old")
    queue.make("u", "new")
    assert drained(queue) == [Job("remove", "u", "old"), Job("make", "u", "new")]


@given(st.sampled_from(ORDER))
def test_what_was_not_done_is_taken_in_again_as_it_was(kind: str) -> None:
    queue = ProvisioningQueue()
    job = Job(kind, None if kind == "orphan" else "u", "r")  # type: ignore[arg-type]
    queue.put_back(job)
    assert drained(queue) == [job]


class QueueMachine(RuleBasedStateMachine):
    """The last word about an account counts; there is never more than one."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ProvisioningQueue()
        self.last: dict[int, str] = {}

    @rule(number=NUMBERS)
    def make(self, number: int) -> None:
        self.queue.make(user(number), role(number))
        self.last[number] = "make"

    @rule(number=NUMBERS)
    def repair(self, number: int) -> None:
        self.queue.repair(user(number), role(number))
        self.last[number] = "make" if self.last.get(number) == "make" else "repair"

    @rule(number=NUMBERS)
    def remove(self, number: int) -> None:
        self.queue.remove(user(number), role(number))
        self.last[number] = "remove"

    @rule(again=st.booleans())
    def take(self, again: bool) -> None:
        job = self.queue.take()
        if job is None:
            assert not self.last
            return
        number = int(job.role.rpartition("-")[2])
        assert job == Job(self.last[number], user(number), role(number))  # type: ignore[arg-type]
        assert job.kind == min(self.last.values(), key=ORDER.index)
        if again:
            self.queue.put_back(job)
        else:
            del self.last[number]

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == len(self.last)
        assert self.queue.has_removals == ("remove" in self.last.values())


TestQueue = QueueMachine.TestCase
