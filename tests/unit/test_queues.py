"""What waits to be sent: cut in order, none lost, no piece cut for little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manyhands.controller.pace import Pace
from manyhands.controller.pieces import Piece
from manyhands.controller.queues import Queues

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def filled(lengths: list[int]) -> Queues:
    queues = Queues()
    queues.open(0, Pace())
    for ticket, length in enumerate(lengths):
        queues.add(Piece(0, ticket, 0, length))
    return queues


@given(LENGTHS, st.lists(st.integers(1, 30), min_size=1), st.booleans())
def test_all_is_cut_once_and_in_order(lengths: list[int], wanted: list[int], exact: bool) -> None:
    """In chunks of what was wanted, if that is exact, and of half of it at least otherwise, but for the last."""
    queues = filled(lengths)
    calls: list[tuple[int, int]] = []
    turn = 0
    while queues.next_pace is not None:
        most = wanted[turn % len(wanted)]
        turn += 1
        before = queues.waiting
        pieces = queues.cut(most, exact)
        cut = sum(map(len, pieces))
        assert queues.waiting == before - cut
        assert cut <= most
        assert cut == min(most, before) if exact else cut >= min(before, (most + 1) // 2)
        if not exact and len(pieces) > 1 and pieces[-1].end < lengths[pieces[-1].ticket]:
            assert 2 * len(pieces[-1]) > most
        calls += [(piece.ticket, at) for piece in pieces for at in range(piece.begin, piece.end)]
    assert calls == [(ticket, at) for ticket, length in enumerate(lengths) for at in range(length)]
    assert queues.waiting == 0


@given(LENGTHS, st.data())
def test_what_is_dropped_is_not_cut(lengths: list[int], data: st.DataObject) -> None:
    """Any stretch of any ticket; the others stay, in their order."""
    queues = filled(lengths)
    ticket = data.draw(st.integers(0, len(lengths) - 1))
    begin = data.draw(st.integers(0, 20))
    end = data.draw(st.none() | st.integers(0, 20))
    last = lengths[ticket] if end is None else min(end, lengths[ticket])
    dropped = [at for first, stop in queues.drop(0, ticket, begin, end) for at in range(first, stop)]
    assert dropped == list(range(begin, last))
    left = []
    while queues.next_pace is not None:
        left += [(piece.ticket, at) for piece in queues.cut(3) for at in range(piece.begin, piece.end)]
    wanted = [(number, at) for number, length in enumerate(lengths) for at in range(length)]
    assert left == [call for call in wanted if call[0] != ticket or call[1] not in dropped]
    assert queues.waiting == 0


@given(LENGTHS)
def test_what_comes_back_goes_first(lengths: list[int]) -> None:
    """Before all that was never sent, in its old order, whatever comes first; those that run alone wait apart."""
    queues = filled(lengths)
    sent = [queues.cut(3)]
    while queues.waiting > 10 and len(sent) < 3:
        sent.append(queues.cut(4))
    rest = queues.waiting
    for pieces in sent:  # what was sent first may come back first
        queues.add_again(list(reversed(pieces)))
    sent = [[piece for pieces in sent for piece in pieces]]
    queues.add_suspect(0, 99, 5)
    assert queues.waiting == rest + sum(map(len, sent[0])) + 1
    assert queues.has_suspects and queues.pop_suspect() == Piece(0, 99, 5, 6, alone=True)
    calls = []
    while queues.next_pace is not None:
        calls += [(piece.ticket, at) for piece in queues.cut(4) for at in range(piece.begin, piece.end)]
    assert calls == [(ticket, at) for ticket, length in enumerate(lengths) for at in range(length)]
    queues.close(0)
    assert 0 not in queues.paces and queues.take_all() == []
