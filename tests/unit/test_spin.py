"""Looking again and again, and leaving it out where it is in vain."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from manyhands.workers.spin import MOST_PAUSE, SPIN_SECONDS, Spin


class World:
    """A clock that each look advances, and something that comes at a certain time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0

    def clock(self) -> float:
        return self.now

    def comes_after(self, seconds: float, step: float = SPIN_SECONDS / 8) -> Callable[[], bool]:
        """What to look for; each look takes ``step`` seconds."""
        at = self.now + seconds

        def come() -> bool:
            self.looks += 1
            self.now += step
            return self.now >= at

        return come


def looks_of(spin: Spin, world: World, come: Callable[[], bool]) -> int:
    """How often it looks."""
    before = world.looks
    spin.until(come)
    return world.looks - before


def test_it_looks_until_it_has_come() -> None:
    """What comes in time ends it, as often as that happens."""
    world = World()
    spin = Spin(world.clock)
    for _ in range(5):
        assert looks_of(spin, world, world.comes_after(SPIN_SECONDS / 2)) == 4


def test_it_gives_up() -> None:
    """What does not come in time is not waited for much longer."""
    world = World()
    Spin(world.clock).until(world.comes_after(1.0))
    assert SPIN_SECONDS <= world.now <= 1.5 * SPIN_SECONDS


def test_it_is_left_out_after_it_was_in_vain() -> None:
    """Once, three times, seven times in a row, up to a limit; and never again for what comes in time."""
    world = World()
    spin = Spin(world.clock)
    for pause in [1, 3, 7, 15, 31, *[MOST_PAUSE] * 3]:
        assert looks_of(spin, world, world.comes_after(1.0))
        for _ in range(pause):
            assert looks_of(spin, world, world.comes_after(0.0)) == 0
    for _ in range(3):
        assert looks_of(spin, world, world.comes_after(0.0)) == 1
    assert looks_of(spin, world, world.comes_after(1.0))
    assert looks_of(spin, world, world.comes_after(0.0)) == 0
    assert looks_of(spin, world, world.comes_after(0.0)) == 1


def test_late_is_in_vain() -> None:
    """What has come, but only after others were let run for long, counts as not come in time."""
    world = World()
    spin = Spin(world.clock)
    assert looks_of(spin, world, world.comes_after(0.0, step=10 * SPIN_SECONDS)) == 1
    assert looks_of(spin, world, world.comes_after(0.0)) == 0


@given(st.lists(st.sampled_from([0.0, SPIN_SECONDS / 2, 1.0]), max_size=200))
def test_it_never_takes_long(times: list[float]) -> None:
    """Whatever comes when, one look takes a spin's time at most."""
    world = World()
    spin = Spin(world.clock)
    for seconds in times:
        begin = world.now
        spin.until(world.comes_after(seconds))
        assert world.now - begin <= 1.5 * SPIN_SECONDS
