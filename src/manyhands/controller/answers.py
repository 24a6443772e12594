"""What a worker's frames say, and what to say where they say nothing; in the thread that waits for it."""

from __future__ import annotations

from manyhands.calls import Answer, Done, Failed, add_note, traceback_text
from manyhands.outcome import Answered, Event, Returned
from manyhands.workers import payload
from manyhands.workers.channel import RETURNED, Frame
from manyhands.workers.parcel import unpack


def answers(index: int, frame: Frame, worker: str, block: bool) -> list[Event]:
    """What a frame of a worker says, or what unpickling it raised; ``index`` is that of its first call."""
    if frame.kind != RETURNED:
        return [Answered(index, unpickled_answer(frame.body), frame.last, worker)]
    values, pickled = unpack(frame.form, frame.body)
    faults: dict[int, Failed] = {}
    if pickled:
        for place, blob in enumerate(values):
            try:
                values[place] = payload.loads(blob)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                faults[place] = unloadable(error)
    if block and not faults:
        return [Returned(index, values, frame.seconds, frame.last, worker)]
    share = frame.seconds / max(1, len(values) - 1)
    return [
        Answered(
            index + place,
            faults.get(place) or Done(value),
            frame.last if place == len(values) - 1 else share,
            worker,
        )
        for place, value in enumerate(values)
    ]


def unpickled_answer(blob: bytes | bytearray) -> Answer:
    """An answer, or what unpickling it raised."""
    try:
        answer: Answer = payload.loads(blob)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return unloadable(error)
    return answer


def unpicklable(error: BaseException) -> Failed:
    """What pickling arguments raised."""
    told = payload.harmless(error)
    add_note(told, "raised as the arguments were pickled for a worker")
    return Failed(told, traceback_text(error))


def unloadable(error: BaseException) -> Failed:
    """What unpickling a result raised; ``sys.exit`` there is no reason to end."""
    told = payload.harmless(error)
    add_note(told, "raised as the result of a worker was unpickled")
    return Failed(told, traceback_text(error))
