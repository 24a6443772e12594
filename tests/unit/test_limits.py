"""The time limits of a pool, over workers that only say what they are at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from manyhands.controller.limits import Limits

TICKET = 5


def handle(*running: tuple[int, int]) -> Any:
    return SimpleNamespace(marker=SimpleNamespace(running=lambda: list(running)))


def test_what_was_given_up_keeps_its_limit_while_a_worker_has_it() -> None:
    """Begun or not: a worker that has been sent it and has not begun it will; then it goes."""
    limits = Limits()
    ticket: Any = SimpleNamespace(share=SimpleNamespace(timeout=0.0))
    limits.abandon(TICKET, ticket)
    assert limits.renew([]) and limits.interval is not None
    assert limits.look({0: handle()}, {}, {TICKET}) == ([], [])
    assert not limits.renew([])
    (late,), suspects = limits.look({0: handle((TICKET, 2))}, {}, {TICKET})
    assert (late.ticket, late.position, suspects) == (TICKET, 2, [])
    assert limits.look({0: handle()}, {}, set()) == ([], [])
    assert limits.renew([]) and limits.interval is None


def test_what_has_no_limit_is_never_late() -> None:
    """Whoever waits for it."""
    limits = Limits()
    ticket: Any = SimpleNamespace(share=SimpleNamespace(timeout=None))
    assert limits.look({0: handle((TICKET, 0))}, {TICKET: ticket}, {TICKET}) == ([], [])
