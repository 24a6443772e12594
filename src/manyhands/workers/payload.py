"""Pickling of what users hand in: by name where the other side can look the name up, else by value.

Workers never import the user's script, so whatever lives in ``__main__`` (a script, a notebook, a prompt)
travels by value, and so do lambdas and closures: cloudpickle's part. The rest takes the fast way.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manyhands.calls import Answer, Done, Failed, Later, add_note, error_text, qualified_name, traceback_text
from manyhands.workers import namespaces

if TYPE_CHECKING:
    from manyhands.errors import RemoteError
    from manyhands.memory.bank import Part

_pickler: Callable[..., pickle.Pickler] | None = None


_NOT_BY_NAME: Final = (pickle.PicklingError, AttributeError, TypeError, RecursionError)
"""What pickle raises of what it can't do. Anything else is an object's own, or that of a handler of a signal."""


LARGE: Final = 1 << 16
"""Buffers, and pickles, of so many bytes go through shared memory."""


_LONGEST: Final = (1 << 17) + (1 << 10)
"""A piece of a pickle that is no byte string or text by itself has fewer bytes: 64 KiB, and what came last."""

_has_seen_large = False
"""Whether a pickle was large by itself: those that follow are made in pieces, so that what is large in them need not be
copied. That takes a microsecond more."""


class Large(NamedTuple):
    """A pickled value that is large.

    Attributes:
        parts: the pickle, which may come in pieces, and the buffers that it refers to, as they lie in the value.
    """

    parts: list[Part]

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        pieces = [part if isinstance(part, list) else [part] for part in self.parts]
        return sum([piece.nbytes for part in pieces for piece in part])

    @property
    def beginning(self) -> bytes:
        """Of the pickle."""
        stream = self.parts[0]
        return bytes(stream[0] if isinstance(stream, list) else stream[:LARGE])


def dumps(value: object) -> bytes:
    """Pickles ``value`` for another process; raises what pickling it raises."""
    try:
        data = pickle.dumps(value, protocol=5)
    except _NOT_BY_NAME:
        return _dumps_by_value(value)  # which raises if it can't either
    return _dumps_by_value(value) if _is_bound(data) else data


def packed(value: object) -> bytes | Large:
    """As ``dumps``; of what is large, the buffers are left where they are."""
    global _has_seen_large
    buffers: list[memoryview] = []

    def outside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < LARGE:
            return True
        buffers.append(raw)
        return False

    pieces: list[bytes] = []
    try:
        if _has_seen_large:
            pickle.Pickler(_Pieces(pieces), 5, buffer_callback=outside).dump(value)
        else:
            data = pickle.dumps(value, protocol=5, buffer_callback=outside)
            if not buffers and len(data) < LARGE and not _is_bound(data):
                return data  # as nearly all do
            pieces.append(data)
    except _NOT_BY_NAME:
        pieces.clear()
    # A piece that is large by itself is the user's own bytes.
    if not pieces or any(_is_bound(piece) for piece in pieces if len(pieces) == 1 or len(piece) < _LONGEST):
        buffers.clear()
        pieces = [_dumps_by_value(value, outside)]
    if sum(map(len, pieces)) >= LARGE:
        _has_seen_large = True
    elif not buffers:
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    stream = [memoryview(piece).cast("B") for piece in pieces]
    return Large([stream[0] if len(stream) == 1 else stream, *buffers])


class _Pieces:
    """A file for a pickler, which hands over large byte strings as they are."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.write = pieces.append


def _is_bound(data: bytes) -> bool:
    # A name in the script's module means another module there; in multiprocessing's children it is __mp_main__.
    return b"__main__" in data or b"__mp_main__" in data


def loads(data: bytes | bytearray) -> Any:
    """The value again."""
    return pickle.loads(data)


def loads_parts(parts: Sequence[Part]) -> Any:
    """The value whose pickle and buffers these are."""
    return pickle.loads(_joined(parts[0]), buffers=parts[1:])


def whole(large: Large) -> bytes:
    """One pickle of what there is no shared memory for."""
    stream, *buffers = large.parts
    data = _joined(stream)
    return pickle.dumps(_Whole([data, *buffers]), protocol=5) if buffers else bytes(data)


def _joined(part: Part) -> memoryview:
    return memoryview(b"".join(part)) if isinstance(part, list) else part


class _Whole:
    """Unpickles as the value does."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts

    def __reduce__(self) -> Any:
        return _loads_whole, tuple(map(pickle.PickleBuffer, self._parts))


def _loads_whole(data: bytes, *buffers: bytes | bytearray) -> Any:
    return pickle.loads(data, buffers=buffers)


def _dumps_by_value(value: object, outside: Callable[[pickle.PickleBuffer], object] | None = None) -> bytes:
    global _pickler
    if _pickler is None:
        _pickler = _make_pickler()
    buffer = io.BytesIO()
    _pickler(buffer, protocol=5, buffer_callback=outside).dump(value)
    return buffer.getvalue()


def _make_pickler() -> Callable[..., pickle.Pickler]:
    from contextvars import ContextVar

    import cloudpickle  # slow to import, not always needed

    from manyhands.workers import contexts

    script = sys.modules.get("__mp_main__")
    if script is not None:
        cloudpickle.register_pickle_by_value(script)

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        """cloudpickle that also takes decorated functions of ``__main__`` by value, and its globals as one."""

        def __init__(
            self, file: Any, protocol: int, buffer_callback: Callable[[pickle.PickleBuffer], object] | None
        ) -> None:
            super().__init__(file, protocol=protocol, buffer_callback=buffer_callback)
            self.globals_ref.update(namespaces.stand_ins())

        def reducer_override(self, obj: Any) -> Any:
            if type(obj) is namespaces.Globals:
                return namespaces.reduced(obj)
            if type(obj) is ContextVar:
                return contexts.reduced(obj)
            if type(obj) is memoryview:
                return _reduced_view(obj)
            by_value = getattr(type(obj), "_reduce_by_value", None)
            if by_value is not None and getattr(obj, "__module__", None) in ("__main__", "__mp_main__"):
                return by_value(obj)
            reduced = super().reducer_override(obj)
            if isinstance(obj, FunctionType) and isinstance(reduced, tuple) and len(reduced) == 6:
                return (*reduced[:5], namespaces.sharing(reduced[5]))
            return reduced

    return ByValue


def _reduced_view(view: memoryview) -> tuple[Any, ...]:
    """How to make a view again: of the same bytes, in order of rows."""
    whole: Any = view
    if not view.c_contiguous:
        whole = view.tobytes() if view.readonly else bytearray(view.tobytes())
    return viewed, (pickle.PickleBuffer(whole), view.format, view.shape)


def viewed(buffer: Any, form: Any, shape: Any) -> memoryview[Any]:
    """A view of these bytes, in this format and of this shape; of single bytes, where Python can't make such a one."""
    view = memoryview(buffer).cast("B")
    try:
        return view.cast(form, shape) if view.nbytes else view.cast(form)
    except ValueError:  # structures, complex numbers, a foreign order of bytes
        return view


def packed_answer(answer: Answer) -> bytes | Large:
    """Pickles an answer; what can't be pickled, or not be unpickled, becomes a failure that says so."""
    if isinstance(answer, Done):
        try:
            return packed(answer)
        except BaseException as error:
            return packed_answer(Failed(unsendable(answer.value, error), traceback_text(error)))
    if isinstance(answer, Failed):
        return _portable(answer)[1]
    if answer.failed is None:
        return dumps(answer)
    return dumps(Later(answer.wait, answer.memo, _portable(answer.failed)[0], answer.where))


def unsendable(value: object, error: BaseException) -> Exception:
    """The error that pickling a result raised, with a note that says so."""
    told = harmless(error)
    add_note(told, f"the result, a {qualified_name(type(value))}, can't be sent back")
    return told


def _portable(failed: Failed) -> tuple[Failed, bytes]:
    """A failure that survives pickling, with what its error loses there, and its pickle."""
    from manyhands.traces import trace_of

    failed = failed._replace(trace=trace_of(failed.error, _surviving))
    data = _dumped(failed) or _dumped(failed, bare=True)
    if data is None:
        failed = failed._replace(error=carried(failed.error))
        data = dumps(failed)
    return failed, data


def _dumped(failed: Failed, bare: bool = False) -> bytes | None:
    """The pickle of a failure, if it unpickles."""
    error = failed.error
    try:
        if bare:
            # Libraries that extend pickle, as tblib does, send these along; they may be what can't be sent.
            error.__context__ = error.__cause__ = error.__traceback__ = None
        data = dumps(failed)
        loads(data)  # an exception with an __init__ of its own often pickles but does not unpickle
    except BaseException:  # what it carries may even call sys.exit on its way
        return None
    return data


def _surviving(error: BaseException) -> BaseException:
    """The exception, or what stands for it if it does not survive pickling."""
    try:
        loads(dumps(error))
    except BaseException:  # what it carries may even call sys.exit on its way
        return carried(error)
    return error


def unpicklable(error: BaseException) -> Failed:
    """What pickling arguments raised."""
    told = harmless(error)
    add_note(told, "raised as the arguments were pickled for a worker")
    return Failed(told, traceback_text(error))


def unloadable(error: BaseException) -> Failed:
    """What unpickling a result raised; ``sys.exit`` there is no reason to end."""
    told = harmless(error)
    add_note(told, "raised as the result of a worker was unpickled")
    return Failed(told, traceback_text(error))


def harmless(error: BaseException) -> Exception:
    """The error, or what stands for it if raising it would end who asks: ``SystemExit``, say."""
    return error if isinstance(error, Exception) else carried(error)


def carried(error: BaseException) -> RemoteError:
    """An exception that surely survives pickling, with the type's name and text of ``error``."""
    from manyhands.errors import RemoteError

    name = qualified_name(type(error))
    stand_in = RemoteError(f"{name}: {error_text(error)}")
    stand_in.type_name = name
    stand_in.__traceback__ = error.__traceback__
    for note in getattr(error, "__notes__", ()):
        stand_in.add_note(str(note))
    return stand_in
