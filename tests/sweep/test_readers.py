"""Results of slow functions: how many come together, and who reads when they do not keep up."""

from __future__ import annotations

import threading
import time

import pytest

from gammatorch.sweep.readers import Readers

SIZES = {0: 16, 1: 16, 2: 8, 3: 4}


def test_kinds_that_come_in_turn_are_taken_in_whole_batches():
    together = Readers(iter([(number, True) for number in range(160)]), lambda number: number % 4, threads=1, ahead=16)
    batches = [[result for _, result in batch] for batch in together.batches(lambda kind: (kind, SIZES[kind]))]
    assert sorted(result for batch in batches for result in batch) == sorted(number % 4 for number in range(160))
    assert all(len(set(batch)) == 1 for batch in batches)
    assert [len(batch) for batch in batches if len(batch) < SIZES[batch[0]]] == [8, 8]  # 40 is no multiple of 16


def test_what_comes_slowly_does_not_wait_for_a_batch():
    slow = Readers(iter([(number, True) for number in range(3)]), lambda number: time.sleep(0.3), threads=1)
    taken = []
    for batch in slow.batches(lambda _: ("one kind", 16)):
        taken.append((len(batch), time.monotonic()))
    assert [count for count, _ in taken] == [1, 1, 1]
    assert taken[1][1] - taken[0][1] > 0.2


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

    readers = Readers(iter([(number, True) for number in range(24)]), read, threads=1, spare=spare)
    items = [item for batch in readers.batches(lambda _: ("one kind", 16)) for item, _ in batch]
    assert sorted(items) == list(range(24))
    assert seen[0] == 1 and max(seen) == most
