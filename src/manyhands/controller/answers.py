"""What a worker's frames say, and what to say where they say nothing; in the thread that waits for it."""

from __future__ import annotations

from typing import Any

from manyhands.calls import Answer, Done, Failed
from manyhands.memory.exchange import Received
from manyhands.outcome import Answered, Event, Returned
from manyhands.workers import payload
from manyhands.workers.channel import RETURNED, Frame
from manyhands.workers.parcel import STORED, unpack
from manyhands.workers.payload import unloadable


def answers(index: int, frame: Frame, worker: str, block: bool) -> list[Event]:
    """What a frame of a worker says, or what unpickling it raised; ``index`` is that of its first call."""
    if frame.kind != RETURNED:
        return [Answered(index, unpickled_answer(frame), frame.last, worker, frame.at)]
    # What was stored comes alone.
    values, pickled = ([frame.body], True) if frame.form == STORED else unpack(frame.form, frame.body)
    faults: dict[int, Failed] = {}
    if pickled:
        for place, blob in enumerate(values):
            try:
                values[place] = loads(blob)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                faults[place] = unloadable(error)
    if block and not faults:
        return [Returned(index, values, frame.seconds, frame.last, worker, frame.at)]
    others = len(values) - 1
    share = frame.seconds / max(1, others)
    return [
        Answered(
            index + place,
            faults.get(place) or Done(value),
            frame.last if place == others else share,
            worker,
            frame.at if place == others else frame.at - frame.last - share * (others - 1 - place),
        )
        for place, value in enumerate(values)
    ]


def loads(pickled: bytes | bytearray | Received) -> Any:
    """The value that a worker has sent or stored."""
    if isinstance(pickled, Received):
        return payload.loads_parts(pickled.open())
    return payload.loads(pickled)


def unpickled_answer(frame: Frame) -> Answer:
    """What the frame says of its call, or what unpickling that raised."""
    try:
        answer: Answer = loads(frame.body)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return unloadable(error)
    return answer
