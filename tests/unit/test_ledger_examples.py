"""The ledger of a pool in single situations, each with what it must answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.controller.actions import (
    Action,
    KillWorker,
    Recall,
    SendCalls,
    StartWorker,
    StopWorker,
    TellBroken,
    TellCancelled,
    TellDied,
)
from manyhands.controller.ledger import START_ATTEMPTS, Ledger, PoolState
from manyhands.controller.pace import AHEAD_SECONDS, TARGET_SECONDS
from manyhands.workers.marker import LOADING


def holding(number: int) -> Ledger:
    """A ledger whose only worker holds the ticket 0, a piece of ``number`` calls."""
    ledger = Ledger(1)
    ledger.open_group(0, number)
    assert ledger.submit(0, 0, number)[0] == StartWorker(0)
    assert sends(ledger.worker_ready(0)) == [(0, 0, 0, number)]
    return ledger


def sends(actions: list[Action], worker: int | None = None) -> list[tuple[int, int, int, int]]:
    """The pieces that are sent, to one worker or all."""
    return [
        piece
        for action in actions
        if isinstance(action, SendCalls) and worker in (None, action.worker)
        for piece in action.pieces
    ]


def answer(ledger: Ledger, number: int, seconds: float | None = None) -> list[Action]:
    """The worker answers all that it holds."""
    for ticket, begin, end in ledger.running(number):
        assert ledger.answered(number, ticket, begin, end, seconds)
    return ledger.proceed(number)


def test_the_pool_gives_up_after_failed_starts() -> None:
    """The third worker in a row that ends before it is ready breaks the pool, and what waits is told."""
    ledger = Ledger(1)
    ledger.open_group(0)
    assert ledger.submit(0, 0, 4) == [StartWorker(0)]
    for number in range(START_ATTEMPTS - 1):
        assert ledger.worker_ended(number) == [StartWorker(number + 1)]
        assert ledger.state is PoolState.OPEN
    assert ledger.worker_ended(START_ATTEMPTS - 1) == [TellBroken(0, 0, 4)]
    assert ledger.state is PoolState.BROKEN
    assert ledger.submit(1, 0, 2) == [TellBroken(1, 0, 2)]
    assert ledger.submit_again(2, 0, 3, 5) == [TellBroken(2, 3, 5)]


def test_a_ready_worker_forgives_failed_starts() -> None:
    """Only failures in a row count."""
    ledger = Ledger(1)
    ledger.open_group(0)
    for ticket in range(3):
        (action,) = ledger.submit(ticket, 0)
        for _ in range(START_ATTEMPTS - 1):
            (action,) = ledger.worker_ended(action.worker)
        assert sends(ledger.worker_ready(action.worker)) == [(0, ticket, 0, 1)]
        assert answer(ledger, action.worker) == []
        ledger.worker_ended(action.worker)
    assert ledger.state is PoolState.OPEN


def test_workers_told_to_end_are_no_failed_starts() -> None:
    """A worker that was killed as it started says nothing about whether workers can be started."""
    ledger = Ledger(3)
    ledger.open_group(0)
    ledger.submit(0, 0, 3)
    ledger.close()
    for number in range(3):
        assert ledger.worker_ended(number) == []
    assert ledger.state is PoolState.CLOSED and ledger.at_rest


@given(
    limit=st.integers(1, 4),
    threads=st.integers(1, 3),
    waiting=st.integers(1, 200),
    seconds=st.sampled_from([1e-6, 1e-3, 1.0]),
)
def test_chunks_are_fair(limit: int, threads: int, waiting: int, seconds: float) -> None:
    """Without a chunk size, every worker gets a share, twice; but what takes next to no time is not cut for that."""
    ledger = Ledger(limit, threads)
    ledger.open_group(0, None)
    for count in (1, 2, 4, 8, 16):
        ledger.pace(0).took(seconds * count, count)
    ledger.submit(0, 0, waiting)
    left = waiting
    for number in list(ledger.workers):
        for action in ledger.worker_ready(number):
            if isinstance(action, SendCalls):
                size = sum(end - begin for _, _, begin, end in action.pieces)
                most = ledger.pace(0).chunksize
                share = max(1, left // (2 * limit * threads), ledger.pace(0).least)
                assert size == min(most, share, left)
                assert not action.whole
                left -= size
    assert left < waiting


def test_a_chunk_has_the_size_that_was_asked_for() -> None:
    """Of tickets of any size, cut where a chunk is full; such a chunk stays whole."""
    ledger = Ledger(1)
    ledger.open_group(0, 4)
    for ticket, number in enumerate([3, 3, 1, 9]):
        ledger.submit(ticket, 0, number)
    chunks = [ledger.worker_ready(0)]
    for _ in range(3):
        chunks.append(answer(ledger, 0))
    assert chunks == [
        [SendCalls(0, ((0, 0, 0, 3), (0, 1, 0, 1)), whole=True, watch=True)],
        [SendCalls(0, ((0, 1, 1, 3), (0, 2, 0, 1), (0, 3, 0, 1)), whole=True, watch=True)],
        [SendCalls(0, ((0, 3, 1, 5),), whole=True, watch=True)],
        [SendCalls(0, ((0, 3, 5, 9),), whole=True, watch=False)],
    ]


def test_single_calls_in_one_chunk_are_watched() -> None:
    """The first may be slow, and then the others must come back, even if nothing else waits."""
    ledger = Ledger(2)
    ledger.open_group(0, None, 4)
    ledger.pace(0).took(0.0, 4)
    for ticket in range(2):
        ledger.submit(ticket, 0)
    (action,) = ledger.worker_ready(0)
    assert action == SendCalls(0, ((0, 0, 0, 1), (0, 1, 0, 1)), watch=True)
    ledger.handed_back(0, 1, 0, 1)
    assert sends(ledger.worker_ready(1)) == [(0, 1, 0, 1)]


def test_groups_take_turns() -> None:
    """Each gets one chunk after the other's, however many calls it has, and chunks are of one group."""
    ledger = Ledger(1)
    for group, number in enumerate([5, 1, 3]):
        ledger.open_group(group, 2)
        ledger.submit(group, group, number)
    order = sends(ledger.worker_ready(0))
    while ledger.running(0):
        order += sends(answer(ledger, 0))
    assert order == [(0, 0, 0, 2), (1, 1, 0, 1), (2, 2, 0, 2), (0, 0, 2, 4), (2, 2, 2, 3), (0, 0, 4, 5)]


@pytest.mark.parametrize("seconds", [TARGET_SECONDS / 5, 1.0])
def test_short_calls_are_sent_ahead(seconds: float) -> None:
    """A worker has a chunk in hand beside the one that it is at, unless its calls may take long."""
    ledger = Ledger(1)
    ledger.open_group(0, None)
    ledger.pace(0).took(seconds * 4, 4)
    ledger.submit(0, 0, 20)
    if seconds > AHEAD_SECONDS:
        assert sends(ledger.worker_ready(0)) == [(0, 0, 0, 1)]
        return
    assert sends(ledger.worker_ready(0)) == [(0, 0, 0, 5), (0, 0, 5, 10)]
    ledger.answered(0, 0, 0, 4, seconds * 4)
    assert ledger.proceed(0) == []
    ledger.answered(0, 0, 4, 5, seconds)
    assert sends(ledger.proceed(0)) == [(0, 0, 10, 15)]


def test_every_thread_gets_a_call_and_idle_workers_first() -> None:
    """Of two workers with two threads each, both have one before one has two."""
    ledger = Ledger(2, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0, 4)
    first = ledger.worker_ready(0)
    assert [action.worker for action in first] == [0, 0]
    second = ledger.worker_ready(1)
    assert [action.worker for action in second] == [1, 1]
    assert [action.watch for action in first + second] == [True, True, True, False]
    assert answer(ledger, 1) == []
    ledger.answered(0, 0, 0, 1)
    assert ledger.proceed(0) == []
    assert [action.worker for action in ledger.submit(1, 0, 3)] == [1, 0, 1]


def test_nothing_is_sent_ahead_to_who_handed_back() -> None:
    """It is at a slow call: what it gave back goes elsewhere, until it has answered."""
    ledger = Ledger(2)
    ledger.open_group(0, None)
    for _ in range(5):
        ledger.pace(0).took(0.001, 4)
    ledger.submit(0, 0, 8)
    ledger.worker_ready(0)
    ticket, begin, end = ledger.running(0)[-1]
    ledger.handed_back(0, ticket, begin, end)
    assert sends(ledger.proceed(0), worker=0) == []
    assert sends(ledger.worker_ready(1))[0][2] == begin


def test_what_an_earlier_map_measured_counts_until_calls_come_back() -> None:
    """Calls that are said to be short go together; if they are not, the next ones go one by one."""
    ledger = Ledger(2)
    ledger.open_group(0, None, expected=1e-6)
    ledger.submit(0, 0, 40)
    assert sends(ledger.worker_ready(0)) == [(0, 0, 0, 40)]
    ledger.handed_back(0, 0, 1, 40)
    assert sends(ledger.proceed(0)) == []
    assert sends(ledger.worker_ready(1)) == [(0, 0, 1, 2)]


def test_only_who_was_run_is_told_dead() -> None:
    """What waited before it and behind it in its chunk goes to the next worker, before those that wait."""
    ledger = holding(5)
    ledger.submit(1, 0)
    assert ledger.worker_ended(0, [(0, 2)]) == [TellDied(0, 2, 0), StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 0, 2), (0, 0, 3, 5), (0, 1, 0, 1)]


def test_of_several_that_ran_none_is_told_dead_before_it_ran_alone() -> None:
    """Each has a worker for itself, before anything else; then it is clear which of them it was."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0, 4)
    ledger.worker_ready(0)
    assert ledger.worker_ended(0, [(0, 1), (0, 0)]) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 1, 2)]
    assert sends(answer(ledger, 1)) == [(0, 0, 0, 1)]
    assert ledger.worker_ended(1, [(0, 0)]) == [TellDied(0, 0, 1), StartWorker(2)]
    assert sends(ledger.worker_ready(2)) == [(0, 0, 2, 3), (0, 0, 3, 4)]


@pytest.mark.parametrize("dies", [False, True])
def test_what_is_cancelled_in_a_worker_s_hand(dies: bool) -> None:
    """It is not dropped at once, since it may begin just then; but when it comes back, it does not run."""
    ledger = Ledger(1)
    ledger.open_group(0, 3)
    for ticket in range(3):
        ledger.submit(ticket, 0)
    assert sends(ledger.worker_ready(0)) == [(0, 0, 0, 1), (0, 1, 0, 1), (0, 2, 0, 1)]
    assert ledger.cancel(1) == [Recall(0)] and ledger.knows(1)
    assert ledger.cancel(1) == []
    assert ledger.cancel(0) == []  # which runs: it is as good as finished
    if dies:
        actions = ledger.worker_ended(0, [(0, 0)])
        assert actions[:2] == [TellDied(0, 0, 0), TellCancelled(1, 0, 1)]
        assert sends(ledger.worker_ready(1)) == [(0, 2, 0, 1)]
    else:
        ledger.handed_back(0, 1, 0, 1)
        assert ledger.proceed(0) == [TellCancelled(1, 0, 1)]
        assert [ledger.answered(0, ticket, 0, 1) for ticket in (0, 2)] == [True, True]
    assert not ledger.knows(1)


def test_a_worker_that_is_ended_on_suspicion() -> None:
    """All that it was at, even if only one call was left then, is run alone and not told dead before."""
    for running in ([(0, 1), (0, 0)], [(0, 1)]):
        ledger = Ledger(1, threads=2)
        ledger.open_group(0)
        ledger.submit(0, 0, 3)
        ledger.worker_ready(0)
        assert ledger.suspect(0) == [KillWorker(0)]
        assert ledger.suspect(0) == []
        assert ledger.worker_ended(0, running) == [StartWorker(1)]
        assert sends(ledger.worker_ready(1)) == [(0, 0, 1, 2)]


def test_no_suspicion_beside_certainty() -> None:
    """Who is ended for a certain call is not suspected; nor is one that has none."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0, 2)
    assert ledger.suspect(0) == []
    ledger.worker_ready(0)
    ledger.kill(0, 1)
    assert ledger.suspect(0) == []
    assert ledger.worker_ended(0, [(0, 0), (0, 1)])[0] == TellDied(0, 1, 0, killed=True)
    assert ledger.suspect(7) == []


def test_a_suspect_that_comes_back_still_runs_alone() -> None:
    """Its worker was recalled before it began it: the next one gets it with nothing beside it either."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0, 4)
    ledger.worker_ready(0)
    ledger.worker_ended(0, [(0, 0), (0, 1)])
    assert sends(ledger.worker_ready(1)) == [(0, 0, 0, 1)]
    ledger.handed_back(1, 0, 0, 1)
    for place in (0, 1):
        assert sends(ledger.proceed(1)) == [(0, 0, place, place + 1)]
        assert ledger.answered(1, 0, place, place + 1)
    assert sends(ledger.proceed(1)) == [(0, 0, 2, 3), (0, 0, 3, 4)]


def test_suspects_of_a_closed_pool_are_told() -> None:
    """Nothing runs again there, so nobody will ever know which it was."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0, 2)
    ledger.worker_ready(0)
    ledger.close()
    assert ledger.worker_ended(0, [(0, 0), (0, 1)]) == [TellBroken(0, 0, 1), TellBroken(0, 1, 2)]


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_a_waiting_suspect_can_be_dropped(how: str) -> None:
    """No worker has it, so it is cancelled like any call that waits."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0)
    ledger.submit(1, 0)
    ledger.worker_ready(0)
    ledger.worker_ended(0, [(0, 0), (1, 0)])
    assert getattr(ledger, how)(1) == [TellCancelled(1, 0, 1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 0, 1)]
    answer(ledger, 1)
    assert ledger.at_rest


def test_who_was_not_begun_runs_elsewhere() -> None:
    """A worker that dies before it begins what it was sent blames nobody."""
    ledger = holding(2)
    assert ledger.worker_ended(0, []) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 0, 2)]


def test_who_kills_every_worker_before_it_begins_is_told_dead() -> None:
    """A call that was sent to START_ATTEMPTS workers and begun by none of them is not sent again."""
    ledger = holding(1)
    for number in range(START_ATTEMPTS - 1):
        assert ledger.worker_ended(number, []) == [StartWorker(number + 1)]
        assert sends(ledger.worker_ready(number + 1)) == [(0, 0, 0, 1)]
    last = START_ATTEMPTS - 1
    assert ledger.worker_ended(last, []) == [TellDied(0, 0, last)]


def test_a_function_whose_loading_ends_the_worker_is_to_blame() -> None:
    """The first call that it is loaded for is told dead at once."""
    ledger = holding(2)
    assert ledger.worker_ended(0, [(LOADING, 0)]) == [TellDied(0, 0, 0), StartWorker(1)]


def test_the_death_of_an_abandoned_call_is_no_other_calls_fault() -> None:
    """The worker ended at a call that nobody waits for: what waits behind it has done nothing."""
    ledger = Ledger(1, threads=2)
    for group in (0, 1):
        ledger.open_group(group)
        ledger.submit(group, group)
    ledger.worker_ready(0)
    ledger.abandon(0)
    assert ledger.worker_ended(0, [(0, 0)]) == [StartWorker(1)]


def test_a_mark_of_a_call_that_was_answered_blames_nobody() -> None:
    """A worker that ends between its last answer and its next mark was at no call."""
    ledger = Ledger(1, threads=2)
    ledger.open_group(0)
    ledger.submit(0, 0)
    ledger.submit(1, 0)
    ledger.worker_ready(0)
    ledger.answered(0, 0, 0, 1)
    ledger.proceed(0)
    assert ledger.worker_ended(0, [(0, 0)]) == [StartWorker(1)]


def test_each_killed_call_is_told_dead() -> None:
    """Of a chunk in which two calls were killed, neither runs again, and nothing else is told."""
    ledger = holding(4)
    assert ledger.kill(0, 0) == [KillWorker(0)]
    assert ledger.kill(0, 2) == [KillWorker(0)]
    assert ledger.worker_ended(0, [(0, 0)]) == [
        TellDied(0, 0, 0, True),
        TellDied(0, 2, 0, True),
        StartWorker(1),
    ]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 1, 2), (0, 0, 3, 4)]


def test_a_call_answered_before_its_kill_blames_nobody() -> None:
    """The worker died of a kill that came too late, so the next call of its chunk is not to blame."""
    ledger = holding(2)
    ledger.kill(0, 0)
    assert ledger.answered(0, 0, 0, 1)
    assert ledger.proceed(0) == []
    assert ledger.worker_ended(0, [(0, 1)]) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(0, 0, 1, 2)]


def test_a_killed_call_that_comes_back_is_dropped() -> None:
    """Its worker handed it back before it heard of its end: it must not run elsewhere."""
    ledger = holding(3)
    ledger.kill(0, 1)
    ledger.handed_back(0, 0, 1, 3)
    told = ledger.proceed(0) + ledger.worker_ended(0, [(0, 0)])
    assert [action.position for action in told if isinstance(action, TellDied)] == [1]


@pytest.mark.parametrize("position", [0, 3])
def test_a_kill_drops_that_call_and_no_other(position: int) -> None:
    """Whether it waits, or was answered already: the rest of its ticket goes on."""
    ledger = Ledger(1)
    ledger.open_group(0)
    ledger.submit(0, 0, 5)
    ledger.worker_ready(0)
    answer(ledger, 0)
    assert ledger.kill(0, position) == ([TellCancelled(0, 3, 4)] if position == 3 else [])
    ran = []
    while held := ledger.running(0):
        ran += [begin for _, begin, _ in held]
        answer(ledger, 0)
    assert ran == ([1, 2, 4] if position == 3 else [1, 2, 3, 4])
    assert ledger.at_rest


def test_what_a_worker_had_not_begun_is_cancelled_with_its_pool() -> None:
    """As is what no worker had."""
    ledger = holding(4)
    ledger.close()
    assert ledger.worker_ended(0, [(0, 1)]) == [
        TellDied(0, 1, 0, killed=False),
        TellCancelled(0, 0, 1),
        TellCancelled(0, 2, 4),
    ]


@pytest.mark.parametrize("what", ["close", "break_down"])
def test_calls_that_come_back_to_a_closed_pool_are_told(what: str) -> None:
    """Nobody will run them, so whoever waits for them must hear of that."""
    ledger = holding(4)
    getattr(ledger, what)()
    ledger.answered(0, 0, 0, 1)
    ledger.handed_back(0, 0, 1, 4)
    told = ledger.proceed(0)
    assert [
        (action.begin, action.end) for action in told if isinstance(action, TellBroken | TellCancelled)
    ] == [(1, 4)]
    assert told[-1] == StopWorker(0)
    ledger.worker_ended(0)
    assert ledger.at_rest and not ledger.expects


def test_abandoned_calls_do_not_hold_up_others() -> None:
    """A worker that only finishes what nobody waits for is replaced, and leaves when it has finished."""
    ledger = holding(1)
    ledger.open_group(1)
    assert ledger.submit(1, 1) == []
    assert ledger.abandon(0) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(1, 1, 0, 1)]
    assert not ledger.answered(0, 0, 0, 1)
    assert ledger.proceed(0) == [StopWorker(0)]


def test_nothing_is_sent_to_wait_behind_abandoned_calls() -> None:
    """However short it is: what nobody waits for may take for ever."""
    ledger = Ledger(1)
    ledger.open_group(0)
    ledger.submit(0, 0, 2)
    ledger.worker_ready(0)
    ledger.abandon(0)
    ledger.open_group(1, None)
    ledger.pace(1).took(0.0001, 4)
    ledger.submit(1, 1, 20)
    assert sends(ledger.worker_ready(1), worker=0) == []
    for _ in range(3):
        assert sends(answer(ledger, 1, 0.0001), worker=0) == []


def test_a_worker_with_calls_that_nobody_waits_for_hands_them_back() -> None:
    """If it has more than it can be at; and one that was killed for it does no harm to what else it had."""
    ledger = Ledger(1)
    ledger.open_group(0, 3)
    ledger.open_group(1, 3)
    ledger.submit(0, 0, 3)
    ledger.worker_ready(0)
    assert ledger.abandon(0) == [Recall(0)]
    ledger.handed_back(0, 0, 1, 3)
    assert ledger.proceed(0) == []
    assert ledger.running(0) == ((0, 0, 1),)


def test_killing_an_abandoned_group_is_no_fault_of_others() -> None:
    """Calls of another group that ran beside it go again, as they were."""
    ledger = Ledger(1, threads=2)
    for group in (0, 1):
        ledger.open_group(group)
        ledger.submit(group, group)
    ledger.worker_ready(0)
    assert ledger.abandon(0, kill=True) == [KillWorker(0)]
    assert ledger.worker_ended(0, [(0, 0), (1, 0)]) == [StartWorker(1)]
    assert sends(ledger.worker_ready(1)) == [(1, 1, 0, 1)]


def test_a_call_of_a_closed_group_is_cancelled() -> None:
    """Nobody can be sent its work any more, so no worker must get it."""
    ledger = Ledger(1)
    ledger.open_group(0)
    ledger.abandon(0)
    assert ledger.submit(0, 0, 3) == [TellCancelled(0, 0, 3)]
    assert ledger.at_rest


def test_cancel_drops_what_was_not_sent() -> None:
    """Of a ticket that is with a worker in part, the rest; other tickets stay."""
    ledger = Ledger(1)
    ledger.open_group(0, 2)
    ledger.submit(0, 0, 5)
    ledger.submit(1, 0, 1)
    ledger.worker_ready(0)
    assert ledger.cancel(0) == [TellCancelled(0, 2, 5)]
    assert ledger.cancel(0) == []
    assert sends(answer(ledger, 0)) == [(0, 1, 0, 1)]
    assert not ledger.knows(0)


def test_a_worker_is_replaced_after_so_many_calls() -> None:
    """It gets no more than that, chunks are cut for it, and its successor starts at once."""
    ledger = Ledger(1, max_tasks=3)
    ledger.open_group(0, 2)
    ledger.submit(0, 0, 4)
    assert sends(ledger.worker_ready(0)) == [(0, 0, 0, 2)]
    assert sends(answer(ledger, 0)) == [(0, 0, 2, 3)]
    assert answer(ledger, 0) == [StopWorker(0), StartWorker(1)]


def test_a_full_worker_finishes_and_goes() -> None:
    """It is replaced as soon as it has ended its calls; one without calls goes at once."""
    ledger = holding(1)
    ledger.submit(1, 0)
    assert ledger.worker_full(0) == []
    assert answer(ledger, 0) == [StopWorker(0), StartWorker(1)]
    ledger.worker_ready(1)
    answer(ledger, 1)
    assert ledger.worker_full(1) == [StopWorker(1)]
    assert ledger.worker_full(7) == []


def test_an_ending_worker_gets_nothing() -> None:
    """Whoever's channel has ended takes no calls, and once it is gone another does."""
    ledger = holding(1)
    answer(ledger, 0)
    ledger.doom(0)
    assert ledger.submit(1, 0) == [StartWorker(1)]
    assert ledger.worker_ended(0) == []
    assert sends(ledger.worker_ready(1)) == [(0, 1, 0, 1)]


def test_a_death_makes_chunks_small() -> None:
    """The group's pace hears of it."""
    ledger = Ledger(1)
    ledger.open_group(0, None)
    ledger.pace(0).took(0.0, 100)
    ledger.submit(0, 0, 10)
    ledger.worker_ready(0)
    ledger.worker_ended(0, [(0, 0)])
    assert ledger.pace(0).chunksize == 1


def test_what_is_left_of_a_ticket_runs() -> None:
    """Its stretches, each once, in a new ledger; it has ended when they have."""
    ledger = Ledger(1)
    ledger.open_group(0, 10)
    assert ledger.submit_again(4, 0, 2, 5) == [StartWorker(0)]
    assert ledger.submit_again(4, 0, 7, 8) == []
    assert sends(ledger.worker_ready(0)) == [(0, 4, 2, 5), (0, 4, 7, 8)]
    assert ledger.answered(0, 4, 2, 5)
    assert ledger.knows(4)
    assert ledger.answered(0, 4, 7, 8)
    assert not ledger.knows(4)


def test_a_ledger_may_have_to_wait_for_its_workers() -> None:
    """With none allowed it takes calls and starts nobody; then as many as it may, with the numbers it was given."""
    ledger = Ledger(0, numbers=iter([7, 9]))
    ledger.open_group(0)
    assert ledger.submit(0, 0, 3) == []
    assert ledger.expects and not ledger.at_rest
    assert ledger.resume(2) == [StartWorker(7), StartWorker(9)]
    assert ledger.worker_ready(0) == []
    assert sends(ledger.worker_ready(9)) == [(0, 0, 0, 1)]


def test_answers_of_nobody_are_left_aside() -> None:
    """Of a worker that is gone, or of calls that it does not have."""
    ledger = holding(1)
    assert not ledger.answered(5, 0, 0, 1)
    assert not ledger.answered(0, 3, 0, 1)
    assert not ledger.answered(0, 0, 0, 2)
    ledger.handed_back(5, 0, 0, 1)
    assert ledger.proceed(5) == []
    ledger.doom(5)
    assert ledger.running(5) == ()
    assert ledger.running(0) == ((0, 0, 1),)
    assert ledger.pace(5) is None


def test_repr_counts() -> None:
    """A person sees the pool's state, what waits and what the workers do."""
    ledger = holding(2)
    ledger.submit(1, 0, 3)
    assert repr(ledger) == "<Ledger open, 3 waiting; 1 busy of 1>"
    assert repr(Ledger(2)) == "<Ledger open, 0 waiting; no workers of 2>"


@pytest.mark.parametrize("what", ["close", "break_down"])
def test_what_runs_is_finished(what: str) -> None:
    """A pool that closes or breaks down lets running calls end, and takes their answers."""
    ledger = holding(1)
    actions: Any = getattr(ledger, what)()
    assert actions == []
    assert answer(ledger, 0) == [StopWorker(0)]
