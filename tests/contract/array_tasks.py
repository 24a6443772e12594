"""Functions and classes for the tests of large data; a module of its own, so that workers import nothing else."""

from __future__ import annotations

import os
import signal
from array import array as machine_array
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from manyhands import OUTPUT, WorkerDied, claimed_output, parallel, retry_on, validated
from manyhands.memory import exchange, segment
from manyhands.workers import shared
from tests.helpers import tell, wait_for

KIB = 1 << 10
MIB = 1 << 20

kept: Any = None
"""What a worker keeps of its calls."""


@dataclass
class Picture:
    """A user's object that holds arrays."""

    name: str
    pixels: np.ndarray
    layers: dict[str, Any] = field(default_factory=dict)


class Counted:
    """A large object that leaves a line where it is pickled and where it is unpickled."""

    def __init__(self, marks: str, array: np.ndarray) -> None:
        self.marks = marks
        self.array = array

    def __getstate__(self) -> dict[str, Any]:
        tell(Path(self.marks) / "pickled", os.getpid())
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        tell(Path(self.marks) / "unpickled", os.getpid())


# -- what two values have in common -----------------------------------------------------------------------------


def seen(value: Any) -> Any:
    """All that can be told of a value, as something that ``==`` compares; NaNs are equal to themselves."""
    if isinstance(value, np.ndarray):
        flags = (value.flags.writeable, value.flags.c_contiguous, value.flags.f_contiguous)
        content = [seen(each) for each in value.ravel().tolist()] if value.dtype.hasobject else value.tobytes()
        return "array", type(value), value.dtype, value.shape, value.strides, flags, content
    if isinstance(value, list | tuple):
        return type(value), [seen(each) for each in value]
    if isinstance(value, dict):
        return dict, [(key, seen(each)) for key, each in value.items()]
    if is_dataclass(value):
        return type(value), [seen(getattr(value, each.name)) for each in fields(value)]
    if isinstance(value, machine_array):
        return machine_array, value.typecode, value.tobytes()
    return type(value), value


def checksum(value: np.ndarray) -> int:
    """The same for arrays that hold the same bytes."""
    return crc32(np.ascontiguousarray(value).view(np.uint8).data)


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


# -- tasks ------------------------------------------------------------------------------------------------------


@parallel
def same(value: Any) -> Any:
    """What it got."""
    return value


@parallel
def check(array: np.ndarray) -> int:
    """What the worker sees."""
    return checksum(array)


@parallel
def is_writeable(array: np.ndarray) -> bool:
    """Whether the worker may write to its input."""
    return bool(array.flags.writeable)


@parallel
def fill(number: int, size: int) -> np.ndarray:
    """An array that is made in the worker."""
    return np.full(size, number % 256, np.uint8)


@parallel
def add_one(array: np.ndarray) -> np.ndarray:
    """Changes its input, and returns that very array."""
    array += 1
    return array


@parallel
def spoil(array: np.ndarray) -> tuple[int, int]:
    """What the worker saw before it overwrote its input, and what afterwards."""
    before = checksum(array)
    array[...] = 255
    return before, checksum(array)


@parallel
def both(array: np.ndarray, other: np.ndarray, *, third: np.ndarray) -> list[int]:
    """What the worker sees of what changes, and of what is fixed."""
    return [checksum(array), checksum(other), checksum(third)]


@parallel
def spoil_fixed(number: int, fixed: np.ndarray) -> int:
    """Overwrites the fixed argument; returns what it was."""
    first = int(fixed[0])
    fixed[...] = number
    return first


@parallel
def of_fixed(number: int, fixed: Counted) -> int:
    """Uses one element of a fixed argument."""
    return number + int(fixed.array[0])


@parallel
@retry_on(OSError, attempts=2, wait=0)
def of_fixed_tried(number: int, fixed: Counted) -> int:
    """The same, as a call that may be tried again."""
    return number + int(fixed.array[0])


@parallel
def keep(array: np.ndarray) -> int:
    """The worker keeps its input."""
    global kept
    kept = array
    return checksum(array)


@parallel
def look_at_kept(_: object = None) -> int:
    """What the worker sees of what it keeps."""
    return checksum(kept)


@parallel
def spoil_kept(_: object = None) -> int:
    """The worker writes into what it keeps."""
    kept[...] = 77
    return checksum(kept)


@parallel
def own_memory(_: object = None) -> tuple[int, int]:
    """Slots that are not free, and bytes, of the worker's own shared memory."""
    ours = shared.of_this_process
    if ours is None or ours._exchange is None:
        return 0, 0
    bank = ours._exchange.bank
    return bank.used, bank.size


@parallel
def worker_descriptors(_: object = None) -> int:
    """How many files the worker has open."""
    return descriptors()


@parallel
@validated(arguments=lambda array: array[0] != 9, result=lambda result: result[0] != 10)
def validated_add_one(array: np.ndarray) -> np.ndarray:
    """As ``add_one``, but not for all."""
    array += 1
    return array


@parallel
@retry_on(OSError, attempts=3, wait=0)
def spoil_and_fail(array: np.ndarray, marks: str) -> tuple[int, int]:
    """Overwrites its input and fails, twice; then says which calls these were and what it saw."""
    number = int(array[-1])
    tell(Path(marks) / str(number), checksum(array))
    calls = len((Path(marks) / str(number)).read_text().splitlines())
    before = checksum(array)
    array[:-1] = 255
    if calls < 3:
        raise OSError(f"call {calls}")
    return calls, before


@parallel
@retry_on(WorkerDied, attempts=2, wait=0)
def spoil_and_die(array: np.ndarray, marks: str) -> int:
    """Overwrites its input and ends its worker, once; then says what it saw."""
    before = checksum(array)
    array[...] = 255
    mark = Path(marks) / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return before


@parallel
def die_if(array: np.ndarray, victim: int) -> np.ndarray:
    """Changes its input in place; for the victim, ends its worker then."""
    number = int(array[0])
    array += 1
    if number == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    return array


@parallel
def mate_or_victim(array: np.ndarray, begun: str, gate: str, sign: str) -> int:
    """Says what it saw, overwrites that, and waits; the victim ends its worker then."""
    before = checksum(array)
    victim = int(array[0]) == 1
    array[...] = 255
    tell(begun, f"{'victim' if victim else 'mate'} {before}")
    wait_for(sign if victim else gate)
    if victim:
        os.kill(os.getpid(), signal.SIGKILL)
    return before


def _dies(function: Callable[..., Any], before: bool) -> Callable[..., Any]:
    """As the function, but its process ends by SIGKILL before or after it has done its work."""

    def instead(*args: Any, **kwargs: Any) -> None:
        if not before:
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return instead


class _Bomb:
    """Ends its process as it is pickled."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


STAGES = ["pickled", "unwritten", "written", "unshown", "shown", "told"]
"""Where a worker may end while it sends a large result."""


@parallel
def die_sending(number: int, size: int, victim: int, stage: str) -> Any:
    """A large result; for the victim its process ends on the way. What it changes for that ends with it."""
    result = np.full(size, number, np.uint8)
    if number != victim:
        return result
    match stage:
        case "pickled":
            return [result, _Bomb()]
        case "unwritten" | "written":
            segment.Segment.write = _dies(segment.Segment.write, stage == "unwritten")  # type: ignore[method-assign]
        case "unshown" | "shown":
            exchange.Exchange.show = _dies(exchange.Exchange.show, stage == "unshown")  # type: ignore[method-assign]
        case "told":
            shared.SharedMemory.put = _dies(shared.SharedMemory.put, before=False)  # type: ignore[method-assign]
    return result


@parallel
def meet_with(array: np.ndarray, begun: str, gate: str) -> np.ndarray:
    """Says that it has begun, and waits to be let go."""
    tell(begun, f"{int(array[0])} {os.getpid()}")
    wait_for(gate)
    return array


# -- functions of blocks ----------------------------------------------------------------------------------------


def as_it_is(block: np.ndarray) -> np.ndarray:
    """The block."""
    return block


def doubled(block: np.ndarray) -> np.ndarray:
    """Twice the block."""
    return block + block


def tall(block: np.ndarray) -> np.ndarray:
    """Another type and another shape of rows."""
    whole = block.reshape(len(block), int(np.prod(block.shape[1:])))
    count = np.ones(whole.shape, np.int32).sum(axis=1, dtype=np.int32)
    return np.stack([count, np.full(len(block), 7, np.int32)], axis=1)


def first_byte(block: np.ndarray) -> np.ndarray:
    """One small number for each row."""
    if not block[:1].nbytes:
        return np.zeros(len(block), np.uint8)
    plain = np.ascontiguousarray(block)
    return plain.view(np.uint8).reshape(len(block), plain[:1].nbytes)[:, 0].copy()


def no_bytes(block: np.ndarray) -> np.ndarray:
    """Rows without anything in them."""
    return np.zeros((len(block), 0, 3))


def objects(block: np.ndarray) -> np.ndarray:
    """A Python object for each row."""
    result = np.empty(len(block), object)
    result[:] = [str(each) for each in block]
    return result


def in_place(block: np.ndarray) -> np.ndarray:
    """Writes into its block."""
    block *= 2
    return block


def linear(x: np.ndarray, y: np.ndarray, factor: float, *, shift: float = 0.0) -> np.ndarray:
    """Two arrays, and fixed arguments after them."""
    return x * factor + y + shift


def where(block: np.ndarray) -> np.ndarray:
    """The process, for each row."""
    return np.full(len(block), os.getpid())


def wrong(block: np.ndarray, kind: str, at: int) -> Any:
    """Goes wrong, in this way, in the block that holds the number ``at``."""
    if at not in block:
        return block
    match kind:
        case "dtype":
            return block.astype(np.float32)
        case "shape":
            return np.stack([block, block], axis=1)
        case "longer":
            return np.concatenate([block, block])
        case "shorter":
            return block[1:]
        case "scalar":
            return 5
        case "none":
            return None
        case "error":
            raise LookupError("not this one")
        case "exit":
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(kind)


@parallel
@retry_on(LookupError, WorkerDied, attempts=2, wait=0)
def wrong_once(block: np.ndarray, kind: str, at: int, marks: str) -> np.ndarray:
    """Goes wrong the first time."""
    tell(Path(marks) / "calls", f"{block[0]} {len(block)}")
    mark = Path(marks) / "mark"
    if at in block and not mark.exists():
        mark.touch()
        block[...] = 0  # what it is called with again must be fresh all the same
        wrong(np.array([at]), kind, at)
    return block * 2


@parallel
def described_view(view: memoryview) -> tuple[str, tuple[int, ...] | None, bool]:
    """Its format and shape, and whether it can't be written to."""
    assert type(view) is memoryview
    return view.format, view.shape, view.readonly


def in_second_attempt(array: np.ndarray, marks: str) -> int:
    """Its checksum; the first attempt at each number fails, or ends the worker, or spoils the array and fails."""
    mark = Path(marks) / f"mark {array[0]}"
    if mark.exists():
        return checksum(array)
    mark.touch()
    if array[0] % 10 == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    array[...] = 255
    raise LookupError


tried_again = parallel(retry_on(LookupError, WorkerDied, attempts=2, wait=0)(in_second_attempt))
looked_at = parallel(
    validated(arguments=lambda array: array[0] < 255)(
        retry_on(LookupError, WorkerDied, attempts=2, wait=0)(in_second_attempt)
    )
)


@parallel
@claimed_output("{number}")
@retry_on(LookupError, WorkerDied, attempts=2, wait=0)
def written_again(number: int, array: np.ndarray, marks: str, output: Path = OUTPUT) -> None:
    """As ``in_second_attempt``, in a file."""
    output.write_text(f"{number} {in_second_attempt(array, marks)}")


@parallel
@validated(result=lambda result: result[0] >= 0)
def only_positive(block: np.ndarray) -> np.ndarray:
    """A result that is looked at."""
    return block


@parallel
def blocks_within(number: int) -> tuple[int, bool, bool]:
    """map_blocks in a worker: its result, and whether it ran right there."""
    x = np.arange(1000.0) + number
    result = parallel(doubled).map_blocks(x, rows=10)
    places = parallel(where).map_blocks(x, rows=10)
    return int(result.sum()), bool((result == 2 * x).all()), set(places.tolist()) == {os.getpid()}


@parallel
def raises(array: np.ndarray) -> None:
    """Fails with its argument in its frame."""
    raise LookupError(array.shape)


@parallel
def makes_a_cycle(array: np.ndarray) -> int:
    """Leaves behind what only a collection finds."""
    held: list[Any] = [array]
    held.append(held)
    return 1


def views_alive() -> int:
    """How many values are open in this worker."""
    from manyhands.workers import shared

    assert shared.of_this_process is not None
    exchange = shared.of_this_process._exchange
    return 0 if exchange is None else exchange.views.alive
