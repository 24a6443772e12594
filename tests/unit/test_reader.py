"""Who reads for a pool: one leads, others follow, and whoever has what it wanted passes the lead on."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from manyhands.controller.reader import CARETAKER, Reader
from tests.helpers import DEADLINE, until


class Pool:
    """What a reader knows of a dispatcher and its caretaker; what workers send are bytes in a pipe.

    There is no caretaker that would notice a lost wake-up: here it means to wait for ever.
    """

    def __init__(self) -> None:
        self.lock: Any = threading.Lock()
        self.sample_interval: float | None = None
        self.arrived: set[int] = set()
        self.taken_in = 0
        self.on_take_in: Callable[[], None] = lambda: None
        self.on_wake: Callable[[], None] = lambda: None
        self.reader = Reader(self)
        self.end, self.workers_end = os.pipe()
        os.set_blocking(self.end, False)
        self.reader.poller.add(self.end)

    @property
    def caretaker(self) -> Pool:
        return self

    def wake(self) -> None:
        self.on_wake()

    def say(self, *numbers: int) -> None:
        """A worker says something."""
        os.write(self.workers_end, bytes(numbers))

    def take_in(self, descriptors: list[int]) -> None:
        self.taken_in += 1
        self.on_take_in()
        with self.lock:
            if descriptors:
                assert descriptors == [self.end]
                self.arrived.update(os.read(self.end, 1))  # one at a time, so that there is more to do
        if self.reader.has_followers:
            self.reader.ring_all()

    def has(self, number: int) -> Callable[[], bool]:
        return lambda: number in self.arrived

    def close(self) -> None:
        with self.lock:
            self.reader.retire()
        os.close(self.end)
        os.close(self.workers_end)


class Waiter:
    """A thread that waits until something is ready."""

    def __init__(self, pool: Pool, ready: Callable[[], bool], timeout: float | None = None) -> None:
        self.error: BaseException | None = None
        self._ready, self._pool, self._timeout = ready, pool, timeout
        self._asked = 0
        self._waits = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._pool.reader.wait(self._is_ready, self._timeout)
        except BaseException as error:
            self.error = error

    def _is_ready(self) -> bool:
        self._asked += 1
        if self._asked > 1:
            self._waits.set()
        return self._ready()

    @property
    def number(self) -> int | None:
        return self._thread.ident

    def waits(self) -> Waiter:
        """Returns when it leads or follows: it can be rung or nudged from now on."""
        assert self._waits.wait(DEADLINE)
        return self

    def ends(self, error: type[BaseException] | None = None) -> None:
        """Waits until it has returned, or has raised such an error."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "it was not woken"
        assert self.error is None if error is None else type(self.error) is error, self.error


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A reader with all that is around it."""
    pool = Pool()
    yield pool
    pool.close()


def never() -> bool:
    return False


def test_who_waits_alone_reads(pool: Pool) -> None:
    """It returns when what it waits for has come, not before, and leads no longer."""
    waiter = Waiter(pool, pool.has(7)).waits()
    assert pool.reader.leader == waiter.number
    pool.say(1, 2, 7, 8)
    waiter.ends()
    assert pool.arrived == {1, 2, 7}
    assert pool.reader.leader is None and not pool.reader.has_followers


def test_what_is_ready_is_not_waited_for(pool: Pool) -> None:
    """Nothing is read then."""
    pool.say(1)
    pool.reader.wait(lambda: True)
    assert pool.taken_in == 0


def test_a_leader_reads_for_all(pool: Pool) -> None:
    """One that follows returns with what the leader took in for it; the leader goes on."""
    leader = Waiter(pool, pool.has(1)).waits()
    follower = Waiter(pool, pool.has(2)).waits()
    assert pool.reader.leader == leader.number and pool.reader.has_followers
    pool.say(2)
    follower.ends()
    assert pool.reader.leader == leader.number and not pool.reader.has_followers
    pool.say(1)
    leader.ends()


def test_the_lead_is_passed_on(pool: Pool) -> None:
    """When the leader has what it wanted, another leads; at last nobody does."""
    waiters = {number: Waiter(pool, pool.has(number)).waits() for number in range(5)}
    while waiters:
        until(lambda: pool.reader.leader in [waiter.number for waiter in waiters.values()], "somebody leads")
        number = next(number for number in waiters if waiters[number].number == pool.reader.leader)
        pool.say(number)
        waiters.pop(number).ends()
    assert pool.reader.leader is None


def test_a_ring_that_its_follower_does_not_need_is_passed_on(pool: Pool) -> None:
    """Who is rung to lead, but goes because it is ready, rings another: nobody sleeps while nobody reads."""
    ready = threading.Event()
    leader = Waiter(pool, ready.is_set).waits()
    others = [Waiter(pool, ready.is_set).waits() for _ in range(9)]
    last = Waiter(pool, pool.has(1)).waits()
    ready.set()  # they are not told
    pool.reader.nudge()
    leader.ends()
    pool.say(1)
    last.ends()
    pool.reader.ring_all()
    for other in others:
        other.ends()


def test_who_gives_up_passes_the_ring_on(pool: Pool) -> None:
    """The same when its time is over just then."""
    ready = threading.Event()
    leader = Waiter(pool, ready.is_set).waits()
    others = [Waiter(pool, never, 0.01) for _ in range(9)]
    last = Waiter(pool, pool.has(1)).waits()
    ready.set()
    pool.reader.nudge()
    pool.say(1)
    for waiter in (leader, last, *others):
        waiter.ends()
    assert pool.reader.leader is None


@pytest.mark.parametrize("leads", [True, False])
def test_a_wait_ends_with_its_time(pool: Pool, leads: bool) -> None:
    """Ready or not, whether it leads or follows; no time at all is over at once."""
    leader = None if leads else Waiter(pool, pool.has(1)).waits()
    pool.reader.wait(never, 0.01)
    pool.reader.wait(never, 0.0)
    assert pool.reader.leader == (None if leader is None else leader.number)
    assert not pool.reader.has_followers
    pool.say(1)
    if leader is not None:
        leader.ends()


def test_all_look_when_they_are_rung(pool: Pool) -> None:
    """What did not come from a worker is noticed too, by the leader and by who follows."""
    ready = threading.Event()
    waiters = [Waiter(pool, ready.is_set).waits() for _ in range(3)]
    pool.reader.ring()
    ready.set()
    pool.reader.ring()
    for waiter in waiters:
        waiter.ends()


def test_a_lead_that_is_given_up_just_before_is_taken(pool: Pool) -> None:
    """Who found a leader, who goes before the other can be rung, leads itself."""

    class Lock:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *args: object) -> None:
            if pool.reader.leader == CARETAKER - 1:
                pool.reader.leader = None
                pool.reader.ring_one()

    pool.reader.leader = CARETAKER - 1  # some thread
    pool.lock = Lock()
    waiter = Waiter(pool, pool.has(1))
    pool.say(1)
    waiter.ends()
    pool.lock = threading.Lock()


@pytest.mark.parametrize("way", ["wait", "look"])
def test_the_caretaker_s_lead_is_anybody_s(pool: Pool, way: str) -> None:
    """Who waits, or looks, takes it, and wakes the caretaker, which would sleep until something arrives."""
    woken: list[int | None] = []
    pool.reader.leader = CARETAKER
    pool.on_wake = lambda: woken.append(pool.reader.leader)
    pool.say(1)
    if way == "wait":
        waiter = Waiter(pool, pool.has(1))
        waiter.ends()
        assert woken == [waiter.number]
    else:
        pool.reader.look()
        assert woken == [threading.get_ident()]
    assert pool.arrived == {1}
    assert pool.reader.leader is None and pool.reader.led


def test_a_look_takes_what_is_there(pool: Pool) -> None:
    """It waits for nothing, and leaves the lead to who has it."""
    pool.reader.look()
    assert pool.arrived == set() and pool.reader.leader is None
    pool.say(1)
    pool.reader.look()
    assert pool.arrived == {1} and pool.reader.leader is None
    leader = Waiter(pool, pool.has(2)).waits()
    pool.reader.look()
    assert pool.reader.leader == leader.number
    pool.say(2)
    leader.ends()


def test_an_interrupted_leader_steps_down(pool: Pool) -> None:
    """Whatever hits it, wherever it is: another leads."""

    def interrupt() -> None:
        pool.on_take_in = lambda: None
        raise KeyboardInterrupt

    pool.on_take_in = interrupt
    leader = Waiter(pool, pool.has(1)).waits()
    follower = Waiter(pool, pool.has(2)).waits()
    pool.say(2)
    leader.ends(KeyboardInterrupt)
    follower.ends()
    assert pool.reader.leader is None


def test_an_interrupted_look_steps_down(pool: Pool) -> None:
    """The same."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    pool.on_take_in = interrupt
    pool.say(1)
    with pytest.raises(KeyboardInterrupt):
        pool.reader.look()
    assert pool.reader.leader is None


def test_samples_are_taken_while_nothing_arrives(pool: Pool) -> None:
    """With a limit of time on calls, the leader looks at them every so often."""
    pool.sample_interval = 0.001
    pool.reader.wait(lambda: pool.taken_in >= 3)
    assert pool.taken_in == 3 and pool.arrived == set()


@pytest.mark.parametrize("number", [0, 1, 3])
def test_nobody_waits_for_a_pool_that_has_ended(number: int) -> None:
    """Leader and followers return, ready or not; who comes later does not wait; no descriptor is left."""
    before = psutil.Process().num_fds()
    pool = Pool()
    waiters = [Waiter(pool, never).waits() for _ in range(number)]
    with pool.lock:
        pool.reader.retire()
    for waiter in waiters:
        waiter.ends()
    assert psutil.Process().num_fds() == before + 2  # the worker's pipe
    pool.reader.wait(never)
    pool.reader.look()
    pool.reader.ring()
    pool.close()
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize("seed", range(5))
def test_many_wait_for_much(pool: Pool, seed: int) -> None:
    """Threads that come and go, wait, look and give up: each gets all that is its own."""
    threads, each = 6, 40
    chance = random.Random(seed)
    numbers = list(range(threads * each))
    chance.shuffle(numbers)
    errors: list[BaseException] = []

    def wait_for_mine(mine: list[int], chance: random.Random) -> None:
        try:
            for number in mine:
                while not pool.has(number)():
                    if chance.random() < 0.3:
                        pool.reader.look()
                    pool.reader.wait(pool.has(number), chance.choice([None, None, 0.0, 0.001]))
        except BaseException as error:
            errors.append(error)

    waiting = [
        threading.Thread(
            target=wait_for_mine,
            args=(numbers[first::threads], random.Random(seed + first)),
            daemon=True,
        )
        for first in range(threads)
    ]
    for thread in waiting:
        thread.start()
    for number in sorted(numbers, key=lambda number: chance.random()):
        pool.say(number)
    for thread in waiting:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "it was not woken"
    assert errors == []
    assert pool.arrived == set(numbers)
    assert pool.reader.leader is None and not pool.reader.has_followers
