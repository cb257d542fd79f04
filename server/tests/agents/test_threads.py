# SPDX-License-Identifier: Apache-2.0
"""The pool runs every job once, on a bounded number of daemon threads."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant_server.agents.threads import DaemonPool


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(0, 30))
def test_every_job_runs_once_on_at_most_so_many_threads(size, jobs):
    pool, done, names = DaemonPool("t", size), threading.Semaphore(0), set()

    def job():
        names.add(threading.current_thread().name)
        done.release()

    for _ in range(jobs):
        pool.submit(job)
    for _ in range(jobs):
        assert done.acquire(timeout=5)
    pool.close()
    assert len(names) <= size


def test_threads_are_daemons_and_made_when_needed():
    pool, seen, done = DaemonPool("t", 8), [], threading.Event()
    before = threading.active_count()
    pool.submit(lambda: (seen.append(threading.current_thread()), done.set()))
    assert done.wait(5)
    assert seen[0].daemon
    assert threading.active_count() <= before + 1
    pool.close()
    seen[0].join(5)
    assert not seen[0].is_alive()


def test_a_closed_pool_takes_nothing():
    pool = DaemonPool("t", 1)
    pool.close()
    with pytest.raises(RuntimeError, match="threads of t are gone"):
        pool.submit(lambda: None)
