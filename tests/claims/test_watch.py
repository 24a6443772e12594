"""Watching an owner from afar: it is taken for dead after its lease, and not while it beats; whatever clocks say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.claims import protocol
from manyhands.claims.decisions import Seen
from manyhands.claims.names import Log
from manyhands.claims.record import Claim, Claimant, Commit, Fail, Record, Release, Reopen, Unreadable
from manyhands.claims.watch import LOOKS_MIN, Moment, Stamp, Watch, crashes, lease_of

LEASE = 8.0
gaps = st.floats(0.0, 100.0) | st.sampled_from([0.0, LEASE / LOOKS_MIN, LEASE, 1e9])
stamps = st.builds(Stamp, st.integers(), st.integers(), st.integers(0, 10))


def watched(looks: list[tuple[float, int]]) -> list[bool]:
    """Whether the owner is taken for dead, at each look: so long after the last, the record has changed so often."""
    now, told = 1000.0, []
    watch = Watch(3, "token", Stamp(0, 0, 5), Moment("here", now))
    for gap, beats in looks:
        now += gap
        watch = watch.again(Stamp(beats, beats, 5), Moment("here", now), LEASE)
        told.append(watch.has_expired(LEASE))
    return told


@given(st.lists(gaps, max_size=30))
def test_who_is_quiet_for_a_lease_is_dead(gaps: list[float]) -> None:
    """After a whole lease and some looks: exactly then, where no gap is longer than its share of the lease."""
    told = watched([(gap, 0) for gap in gaps])
    share = LEASE / LOOKS_MIN
    counted = [sum(min(gap, share) for gap in gaps[: at + 1]) for at in range(len(gaps))]
    assert told == [at + 1 >= LOOKS_MIN and sum_ >= LEASE for at, sum_ in enumerate(counted)]
    for at, expired in enumerate(told):
        if expired:
            assert sum(gaps[: at + 1]) >= LEASE
    assert watched([(share, 0)] * LOOKS_MIN)[-1]


@given(st.lists(gaps, min_size=1, max_size=LOOKS_MIN - 1))
def test_no_long_gap_ends_a_lease(gaps: list[float]) -> None:
    """After a server froze, or this machine slept, few looks prove nothing, however long ago the first was."""
    assert not any(watched([(gap, 0) for gap in gaps]))


@given(st.lists(st.tuples(gaps, st.booleans()), max_size=40))
def test_who_beats_is_alive(looks: list[tuple[float, bool]]) -> None:
    """Each beat begins the lease anew."""
    beats, plan, since = 0, [], []
    for gap, beat in looks:
        beats += beat
        plan.append((gap, beats))
        since.append((*since[-1], gap) if since and not beat else (() if beat else (gap,)))
    for told, quiet in zip(watched(plan), since, strict=True):
        if told:
            assert len(quiet) >= LOOKS_MIN and sum(quiet) >= LEASE


@given(st.data())
def test_any_change_is_a_beat(data: st.DataObject) -> None:
    """Also one of times that go back, or of a clock far away from this one."""
    first, second = data.draw(stamps), data.draw(stamps)
    watch = Watch(0, "token", first, Moment("here", 5.0), quiet=LEASE, looks=LOOKS_MIN)
    assert watch.again(second, Moment("here", 6.0), LEASE).has_expired(LEASE) is (first == second)


def test_times_of_two_clocks_are_not_compared() -> None:
    """What another machine has seen, or this one before it was started anew, counts for nothing."""
    watch = Watch(0, "token", Stamp(0, 0, 5), Moment("there", 5.0), quiet=LEASE, looks=LOOKS_MIN)
    again = watch.again(Stamp(0, 0, 5), Moment("here", 1e9), LEASE)
    assert (again.quiet, again.looks) == (0.0, 0)
    assert Moment("here", 3.0).since(Moment("here", 5.0)) == 0.0, "a clock that went back has not moved"


# -- logs ------------------------------------------------------------------------------------------------------

ME = Claimant("token", "host", "boot", 1, 2, 3, lease=LEASE)
RECORDS: dict[str, Record | Unreadable] = {
    "C": Claim(ME),
    "F": Fail("token", "ValueError", code_hash="mine"),
    "K": Fail("token", "manyhands.errors.WorkerDied", code_hash="mine", crashes=3),
    "O": Fail("token", "ValueError", code_hash="other", crashes=7),
    "R": Release("token"),
    "A": Reopen("token", "mine"),
    "D": Commit(ME),
    "?": Unreadable("torn"),
}


def slots(text: str) -> list[Record | Unreadable]:
    """A log, a letter for each slot."""
    return [RECORDS[letter] for letter in text]


@pytest.mark.parametrize(
    ("log", "times"), [("C", 1), ("CC", 2), ("CCC", 4), ("CFC", 1), ("CRCCC", 4), ("C" * 7, 64), ("C" * 20, 64)]
)
def test_leases_double(log: str, times: int) -> None:
    """For each CLAIM directly upon a CLAIM, up to 64-fold; anything else between them begins anew."""
    assert lease_of(slots(log)) == LEASE * times
    assert lease_of([*slots(log)[:-1], Claim(ME._replace(lease=1.5))]) == 1.5 * times, "the owner's own"


@pytest.mark.parametrize(
    ("log", "count"),
    [
        ("", 0),
        ("C", 0),  # its owner may live
        ("CC", 1),
        ("CCC", 2),
        ("CRC", 0),  # given up
        ("CCRCC", 2),  # which is no verdict
        ("CCFC", 0),  # it was the function that failed
        ("CCCKAC", 3),  # kept when it is reopened
        ("CCCKACC", 4),
        ("CCOC", 0),  # other code
        ("CCDC", 0),  # it was computed, and deleted
        ("CC?C", 1),
    ],
)
def test_crashes_are_counted(log: str, count: int) -> None:
    """Owners that were superseded without a verdict, since the last one."""
    assert crashes(slots(log), "mine") == count


def test_a_wait_is_over_though_its_sum_is_not_exact() -> None:
    """Who has waited as long as it was told does not wait again, for what was lost in rounding."""
    log, me = Log.of("/d/a.csv"), Claimant("a" * 24, "host", "boot", 0, 1, 1)
    failed = Fail("b" * 24, "OSError", backoff=3600.1)
    for base in range(1000, 9000, 7):
        now = base + 0.3
        seen = Seen(1, failed.token, Moment("clock", now))
        steps = protocol.heed(log, me, protocol.Question(seen=seen), [Claim(me), failed], failed)
        next(steps)
        with pytest.raises(StopIteration) as told:
            steps.send(Moment("clock", now + 3600.1))
        assert told.value.value == "free"
