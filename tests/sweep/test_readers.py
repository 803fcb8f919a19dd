"""Results of slow functions: how many come together, and who reads when they do not keep up."""

from __future__ import annotations

import threading
import time

import pytest

from gammatorch.sweep import readers
from gammatorch.sweep.readers import Readers

SIZES = {0: 16, 1: 16, 2: 8, 3: 4}


def test_kinds_that_come_in_turn_are_taken_in_whole_batches(monkeypatch):
    monkeypatch.setattr(readers, "_MOMENT_SECONDS", 30.0)  # a busy machine may pause for longer than a moment
    together = Readers(iter([(number, True) for number in range(160)]), lambda number: number % 4, threads=1, ahead=16)
    batches = [[result for _, result in batch] for batch in together.batches(lambda kind: (kind, SIZES[kind]))]
    assert sorted(result for batch in batches for result in batch) == sorted(number % 4 for number in range(160))
    assert all(len(set(batch)) == 1 for batch in batches)
    assert [len(batch) for batch in batches if len(batch) < SIZES[batch[0]]] == [8, 8]  # 40 is no multiple of 16


def test_what_comes_slowly_does_not_wait_for_a_batch():
    """Each is read once the one before it has been taken."""
    taken = threading.Semaphore(1)
    slow = Readers(iter([(number, True) for number in range(3)]), lambda number: taken.acquire(timeout=30), threads=1)
    batches = []
    for batch in slow.batches(lambda _: ("one kind", 16)):
        batches.append([result for _, result in batch])
        taken.release()
    assert batches == [[True], [True], [True]]


def test_no_more_wait_for_their_kind_than_some_batches(monkeypatch):
    monkeypatch.setattr(readers, "_MOMENT_SECONDS", 30.0)
    of_a_kind = Readers(iter([(number, True) for number in range(100)]), lambda number: number % 50, threads=1)
    batches = list(of_a_kind.batches(lambda kind: (kind, 2)))
    assert sorted(item for batch in batches for item, _ in batch) == list(range(100))
    assert [len(batch) for batch in batches[:3]] == [1, 1, 1]  # of 50 kinds in turn 8 wait, not all until each is two


@pytest.mark.parametrize(("spare", "most"), [(0, 1), (1, 2), (3, 4)])
def test_spare_threads_join_where_results_are_waited_for(spare, most):
    lock, at_once, seen = threading.Lock(), 0, []

    def read(number: int) -> int:
        nonlocal at_once
        with lock:
            at_once += 1
            seen.append(at_once)
        time.sleep(0.1)
        with lock:
            at_once -= 1
        return number

    reading = Readers(iter([(number, True) for number in range(24)]), read, threads=1, spare=spare)
    items = [item for batch in reading.batches(lambda _: ("one kind", 16)) for item, _ in batch]
    assert sorted(items) == list(range(24))
    assert seen[0] == 1 and max(seen) == most
