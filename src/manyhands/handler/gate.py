"""Who may run an item now, as the stream sees it.

The stream asks the gate before it sends an item for the first time and each time it comes back; a worker that
finds the item busy answers ``Later``, and the gate says when to ask again. Claims are the gate that exists;
``OpenGate`` lets everything pass.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from manyhands.calls import Call, Done, Failed, Later
from manyhands.errors import TaskTimeout, WorkerDied


class Away(NamedTuple):
    """The item is left to the process that holds it: it ends as ``Elsewhere``."""

    where: str = ""


class Pass(NamedTuple):
    """Send the item; ``memo`` goes to the worker with it."""

    memo: Any = None

    def call(self, call: Call) -> Call:
        """The call to send."""
        return call if self.memo is None else Call(call.args, call.kwargs, self.memo)


class Gate(Protocol):
    """Asked in the consumer's thread, so it must not block for long."""

    def order(self, due: list[int]) -> list[int]:
        """In which order items are sent whose time has come; ``due`` is theirs in the input."""
        ...

    def enter(self, index: int, call: Call) -> Pass | Done[Any] | Failed:
        """Before an item is sent: it may pass, or it has its result already, or it must fail."""
        ...

    def later(self, index: int, answer: Later, looks: int) -> float | Away:
        """After the ``looks``-th ``Later`` in a row: seconds until the item is sent again, or leave it."""
        ...

    def died(self, index: int, call: Call, error: WorkerDied | TaskTimeout) -> Failed | Later | None:
        """The call's worker has ended with it. None: what that means is the stream's to say, as of any failure."""
        ...

    def close(self) -> None:
        """The map has ended."""
        ...


_PASS: Final = Pass()


class OpenGate:
    """Lets every item pass."""

    def order(self, due: list[int]) -> list[int]:
        """Theirs."""
        return due

    def enter(self, index: int, call: Call) -> Pass | Done[Any] | Failed:
        """It passes."""
        return _PASS

    def later(self, index: int, answer: Later, looks: int) -> float | Away:
        """What the worker said."""
        return answer.wait or 0.0

    def died(self, index: int, call: Call, error: WorkerDied | TaskTimeout) -> Failed | Later | None:
        """Nothing is known of it."""
        return None

    def close(self) -> None:
        """Nothing to do."""
