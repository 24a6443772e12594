"""A decorated function: a callable object that looks like its body and carries a ``Task``.

There are four types of them, so that type checkers see what was mixed in: plain, parallel, claimed, and both.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from manyhands.calls import Call, Failed, short_repr
from manyhands.decorators.task import Task, current_directory
from manyhands.errors import ItemError
from manyhands.outcome import Discarded, Elsewhere, Failure, Progress
from manyhands.policies.annotations import Annotations
from manyhands.policies.parameters import Parameters, innermost, name_of, signature_of
from manyhands.policies.validation import Refused
from manyhands.settings import Backend, MapOptions, OnError, StartMethod, option_names
from manyhands.spelling import suggesting
from manyhands.traces import hide_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from manyhands.controller.futures import Desk
    from manyhands.decorators.submitting import Submitter
    from manyhands.handler.results import Results

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

_OF_MAP = ("star", "kwstar", "args", "kwargs", "total")
"""What ``map`` takes beside options."""

_MAPPING = ("map", "submit", "asubmit", "map_blocks", "options")
"""What a function has that can be mapped."""

Kind = Literal["function", "classmethod", "staticmethod"]


class Options(TypedDict, total=False):
    """The options of a map, as keywords; see ``@parallel`` for what they mean."""

    workers: int | None
    backend: Backend
    chunksize: int | Literal["auto"]
    buffersize: int | None
    ordered: bool
    threads: int
    timeout: float | None
    progress: bool | str | type[Any] | Callable[[Progress], object]
    worker_bars: bool
    record: bool | str | os.PathLike[str]
    trace: str | os.PathLike[str] | None
    start_method: StartMethod | None
    initializer: Callable[[], object] | None
    finalizer: Callable[[], object] | None
    max_tasks_per_worker: int | None
    max_memory_per_worker: int | None
    max_shared_memory: int | None
    readonly: bool


class Decorated(Generic[P, R]):
    """A function with policies. Called, it runs here, through all of them.

    Attributes:
        task: the policies.
    """

    task: Task
    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str
    _body: Callable[..., Any]
    _kind: Kind
    _prefix: tuple[Any, ...]
    _parameters: Parameters
    _annotations: Annotations | None  # where they are checked

    def __init__(self, body: Callable[..., Any], task: Task, kind: Kind = "function") -> None:
        self._set(body, task, kind)

    def _set(self, body: Callable[..., Any], task: Task, kind: Kind) -> None:
        # What is in a class is for its instances; as a function's own attribute, its __reduce__ would be called.
        functools.update_wrapper(self, body, updated=() if isinstance(body, type) else ("__dict__",))
        self.task = task
        self._body = body
        self._kind = kind
        self._prefix = ()
        self._parameters = Parameters.of(body)
        checked = task.validation is not None and task.validation.annotations
        self._annotations = Annotations(body, self._parameters) if checked else None
        if self._parameters.signature is not None:
            self._set_signature(self._parameters.signature)

    def _set_signature(self, signature: inspect.Signature) -> None:
        """What the function looks like from outside: without OUTPUT, and returning what a call returns."""
        annotations = {
            name: parameter.annotation
            for name, parameter in signature.parameters.items()
            if parameter.annotation is not parameter.empty
        }
        if signature.return_annotation is not signature.empty:
            annotations["return"] = signature.return_annotation
        claim = self.task.claim
        if claim is not None:
            returns: Any = Path
            if claim.load is not None:
                loads = signature_of(claim.load)
                returns = inspect.Signature.empty if loads is None else loads.return_annotation
            signature = signature.replace(return_annotation=returns)
            annotations.pop("return", None)
            if returns is not inspect.Signature.empty:
                annotations["return"] = returns
        self.__signature__ = signature
        self.__annotations__ = annotations

    # -- as a function ------------------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs here: arguments validated, output claimed, attempt, result validated, output committed.

        Raises:
            InvalidArguments, InvalidResult: a predicate of ``@validated`` did not keep them.
            TypeError: the arguments don't fit the signature.
        """
        task = self.task
        if task.claim is None and task.validation is None and not task.retries:
            if self._parameters.output is not None:
                raise TypeError(f"{name_of(self)} declares OUTPUT, but has no @claimed_output to fill it in")
            try:
                return cast("R", self._body(*self._prefix, *args, **kwargs))
            except (Exception, KeyboardInterrupt) as error:
                hide_frames(error)
                raise
        from manyhands.decorators.mapping import call_here

        try:
            answer = call_here(self, Call(args, dict(kwargs)))
            if isinstance(answer, Failed):
                raise answer.error
        except (Exception, KeyboardInterrupt) as error:
            hide_frames(error)
            raise
        return cast("R", answer.value)

    # Type checkers look through @classmethod and @staticmethod and see their functions as written, so the type
    # of the first parameter tells what is bound: a class (the owner, or the instance's), the instance, or
    # nothing. That not every function binds so is meant; mypy and, in the subclasses, pyright object to it.
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], R], instance: None, owner: type[S]
    ) -> Decorated[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], R], instance: S, owner: type[Any] | None = None
    ) -> Decorated[Q, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: S, owner: type[Any] | None = None
    ) -> Decorated[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Self: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """Binds like a function does, so that ``obj.method.map`` knows ``self``."""
        return self._bind(instance, owner)

    def _bind(self, instance: Any, owner: type[Any] | None) -> Self:
        if self._kind == "staticmethod" or self._prefix:
            return self
        if self._kind == "classmethod":
            instance = type(instance) if owner is None else owner
        elif instance is None:
            return self
        bound = self._copy()
        bound._prefix = (instance,)
        signature = getattr(self, "__signature__", None)
        if signature is not None:
            bound.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
        return bound

    def _unbound(self) -> Decorated[..., Any]:
        """As it was before it was bound: what decorators are applied to."""
        return decorated(self._body, self.task, self._kind)

    def _bound_as(self, other: Decorated[..., Any]) -> Self:
        """Bound to what ``other`` is bound to."""
        bound = self._copy()
        bound._prefix = other._prefix
        bound.__signature__ = other.__signature__
        return bound

    def _copy(self) -> Self:
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.__dict__.pop("_submitter", None)
        copy.__dict__.pop("_desk", None)
        return copy

    @property
    def __self__(self) -> Any:
        """What it is bound to."""
        if not self._prefix:
            raise AttributeError("__self__")
        return self._prefix[0]

    def check_call(self, call: Call) -> None:
        """Raises ItemError if the arguments don't fit the signature, as far as that is known."""
        if self._parameters.signature is not None:
            try:
                self._parameters.signature.bind(*self._prefix, *call.args, **call.kwargs)
            except TypeError as error:
                raise ItemError(f"{name_of(self)} can't be called so: {error}") from None

    def checked(self, call: Call) -> Call:
        """The call, if ``@validated`` keeps its arguments, as its annotations convert them.

        Raises:
            Refused: it does not.
            ItemError: they don't fit the signature.
            Exception: what a predicate raised.
        """
        call = self.converted(call)
        validation = self.task.validation
        if validation is not None and validation.arguments is not None:
            validation.check_arguments(self.bind_arguments(call))
        return call

    def converted(self, call: Call) -> Call:
        """The call with what its annotations make of the arguments; raises as ``checked``."""
        if self._annotations is None:
            return call
        try:
            return self._annotations.checked(call, len(self._prefix))
        except Refused:
            self.bind_arguments(call)  # what does not fit the signature at all is told as ever
            raise

    def checked_result(self, value: Any, annotated: bool = True) -> Any:
        """The value, if ``@validated`` keeps it, as the function's annotation converts it.

        Args:
            value: what the body returned, or the path of what it wrote.
            annotated: whether it is what the annotation is for.

        Raises:
            Refused: it does not.
            Exception: what a predicate raised.
        """
        if annotated and self._annotations is not None:
            value = self._annotations.checked_result(value)
        if self.task.validation is not None:
            self.task.validation.check_result(value)
        return value

    def bind_arguments(self, call: Call) -> dict[str, Any]:
        """The arguments of a call by parameter name, ``self`` and defaults included.

        Raises:
            ItemError: they don't fit the signature.
        """
        parameters = self._parameters
        if parameters.output is not None and parameters.output in call.kwargs:
            raise ItemError(
                f"{name_of(self)} got the argument {parameters.output!r}, "
                f"which the library fills in from its template"
            )
        try:
            return parameters.bind(Call((*self._prefix, *call.args), call.kwargs))
        except TypeError as error:
            raise ItemError(f"{name_of(self)} can't be called so: {error}") from None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Tells which decorator a missing method comes with."""
            missing = "@parallel" if name in _MAPPING else "@claimed_output" if name == "claims" else ""
            told = f"{type(self).__name__!r} object has no attribute {name!r}"
            if missing:
                told = f"{name_of(self)} has no {name!r}: that comes with {missing}"
            try:
                raise AttributeError(told, name=name, obj=self)
            except AttributeError as error:
                hide_frames(error)
                raise

    def __repr__(self) -> str:
        bound = f" of {short_repr(self._prefix[0])}" if self._prefix else ""
        task = self.task
        ways = ["parallel"] * (task.parallel is not None) + ["claimed"] * (task.claim is not None)
        ways += ["validated"] * (task.validation is not None) + ["retried"] * bool(task.retries)
        return f"<{' '.join([*ways, 'function'])} {name_of(self)}{bound}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decorated) or not self._prefix or not other._prefix:
            return self is other
        same = self._body is other._body and self.task == other.task
        return same and self._prefix[0] is other._prefix[0]

    def __hash__(self) -> int:
        return hash((self._body, *map(id, self._prefix))) if self._prefix else object.__hash__(self)

    # -- between processes ----------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        found = _found_by_name(self)
        if found is self and not self._prefix:
            return self.__qualname__
        # Of a changed copy, the name finds the original: that has the body, which has no name of its own.
        original = isinstance(found, Decorated) and found is not self and found._body is self._body
        return self._reduce_by_value(found if original else self._body)

    def alone(self) -> Callable[..., Any] | None:
        """The body, if nothing but that is needed to call this in a worker; None if more is."""
        task = self.task
        if task.claim is not None or task.validation is not None or task.retries or self._prefix:
            return None
        if getattr(self, "__module__", None) in ("__main__", "__mp_main__"):
            return self._body  # which travels by value
        found = _found_by_name(self)
        return None if isinstance(found, Decorated) else self._body

    def _reduce_by_value(self, body: Callable[..., Any] | None = None) -> Any:
        name = getattr(self, "__name__", "")
        if self._prefix and getattr(self._prefix[0], name, None) == self:
            return getattr, (self._prefix[0], name)  # the instance or class travels, not a copy of its method
        # Made first and filled in later: the body may refer to this very object.
        state = (body or self._body, _portable(self.task), self._kind, self._prefix, self._hints(body))
        return _blank, (type(self),), state

    def _hints(self, body: Callable[..., Any] | None) -> dict[str, Any] | None:
        """What annotations to be checked are, unless they travel by the name of a decorated function."""
        return None if self._annotations is None or isinstance(body, Decorated) else self._annotations.hints

    def __setstate__(self, state: tuple[Any, Task, Kind, tuple[Any, ...], dict[str, Any] | None]) -> None:
        body, task, kind, prefix, hints = state
        self._set(body._body if isinstance(body, Decorated) else body, task, kind)
        if hints is not None:
            self._annotations = Annotations(self._body, self._parameters, hints)
        if prefix:
            self.__dict__.update(self._bind(prefix[0], prefix[0]).__dict__)


class ParallelFunction(Decorated[P, R]):
    """A function with ``@parallel``: it can be mapped and submitted."""

    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], R], instance: None, owner: type[S]
    ) -> ParallelFunction[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], R], instance: S, owner: type[Any] | None = None
    ) -> ParallelFunction[Q, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: S, owner: type[Any] | None = None
    ) -> ParallelFunction[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Self: ...
    def __get__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, instance: Any, owner: type[Any] | None = None
    ) -> Any:
        """Binds like a function does."""
        return self._bind(instance, owner)

    @overload
    def map(
        self,
        items: Iterable[Any],
        /,
        *,
        star: bool | None = False,
        kwstar: bool = False,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        total: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        **options: Unpack[Options],
    ) -> Results[R]: ...
    @overload
    def map(
        self,
        items: Iterable[Any],
        /,
        *,
        star: bool | None = False,
        kwstar: bool = False,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        total: int | None = None,
        on_error: OnError,
        **options: Unpack[Options],
    ) -> Results[R | Failure | Discarded | Elsewhere]: ...
    def map(
        self,
        items: Iterable[Any],
        /,
        *more: Any,
        star: bool | None = False,
        kwstar: bool = False,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        total: int | None = None,
        **options: Any,
    ) -> Any:
        """Calls the function for each item, in worker processes; starts at once.

        Args:
            items: any iterable; it is advanced by who takes the results, in that thread, and never further than
                ``buffersize`` allows.
            star: True: an item is the positional arguments; False: it is the first one; None: it is ignored.
            kwstar: an item ends in (or, with ``star=None``, is) a mapping of keyword arguments.
            args: fixed positional arguments, after those of the item.
            kwargs: fixed keyword arguments; the item's own win over them.
            total: the number of items, for the progress bar, where ``len(items)`` does not tell.
            options: as in ``@parallel``, for this map.

        Returns:
            Results: a lazy iterator of values in the order of the items.

        Raises:
            ItemError, TemplateError, DuplicateOutput: an item of a list or tuple can't be run (under
                ``on_error="raise"``; else, and for other iterables, this is that item's failure).
            OutputDirectoryError: outputs can't be written.
        """
        if more:
            raise TypeError(
                f"{name_of(self)}.map takes one iterable of items; for several, use "
                f"{name_of(self)}.map(zip(xs, ys), star=True)"
            )
        changed = self._changed(options, "map", _OF_MAP)
        from manyhands.decorators.mapping import start_map
        from manyhands.policies.star import StarRule

        try:
            rule = StarRule(star, kwstar, cast("tuple[Any, ...]", args), kwargs or {})
            return start_map(self, items, rule, changed, total)
        except (Exception, KeyboardInterrupt) as error:
            hide_frames(error)
            raise

    def map_blocks(
        self,
        *arrays: Any,
        rows: int | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> NDArray[Any]:
        """Calls the function with blocks of rows of an array, in worker processes, and returns one array.

        The function gets a block and returns an array with one row for each of the block's; all its results must have
        the same type and, but for the number of rows, the same shape. Workers write them into the result itself:
        nothing is joined. Needs numpy.

        Args:
            arrays: one or more, split together along their first axis: numpy arrays, memory-mapped files, or what else
                has a ``shape`` and gives a block for ``array[start:stop]``; it is read as it is needed.
            rows: of a block; None: as many as stay in a core's cache, some 256 KiB.
            args: fixed positional arguments, after the blocks.
            kwargs: fixed keyword arguments.
            options: as in ``@parallel``; ``progress`` counts rows; ``ordered``, ``chunksize`` and ``buffersize`` have
                no effect.

        Returns:
            numpy.ndarray: shape ``(len(array), …)``; it may be written to.

        Raises:
            TypeError, ValueError: the arrays can't be split, or not together.
            InvalidResult: a result does not fit its block, or the others; it says which rows.
            WorkerDied, TaskTimeout: a worker ended; the error's ``item`` is the range of the rows that it was sent.
            Exception: what the function raised, with a note that says for which rows.
        """
        from manyhands.decorators.blocks import map_blocks

        try:
            changed = self._changed(dict(options), "map_blocks", ("rows", "args", "kwargs"))
            return map_blocks(self, arrays, rows, args, kwargs, changed)
        except (Exception, KeyboardInterrupt) as error:
            hide_frames(error)
            raise

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Calls the function once, in a worker process; retries and claims as in a map.

        The future's ``cancel`` drops the call if no worker has it; one with retries or a claim may be cancelled
        later too: it is finished then, and forgotten.
        """
        from manyhands.decorators.submitting import submit

        return cast("Future[R]", submit(self, Call(args, dict(kwargs))))

    def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """As ``submit``, to be awaited in the running event loop, which goes on meanwhile.

        Raises:
            RuntimeError: no event loop runs in this thread.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        return asyncio.wrap_future(self.submit(*args, **kwargs), loop=loop)

    @suggesting("options", example="f.options(workers=4)")
    def options(self, *, on_error: OnError | None = None, **options: Unpack[Options]) -> Self:
        """A copy with other options; see ``@parallel`` for what they mean."""
        changes: dict[str, Any] = dict(options)
        if on_error is not None:
            changes["on_error"] = on_error
        copy = self._copy()
        copy.task = replace(self.task, parallel=self._options.changed(changes, f"{name_of(self)}.options"))
        return copy

    def _changed(self, options: dict[str, Any], method: str, own: tuple[str, ...]) -> MapOptions:
        """The options of a map with changes; raises TypeError, also for what is the function's own argument."""
        name = name_of(self)
        known = option_names().union(own)
        for wrong in options.keys() & self._parameters.names - known:
            raise TypeError(
                f"{name}.{method} has no option {wrong!r}; the function's own {wrong!r} is given in "
                f"{name}.{method}(…, kwargs={{{wrong!r}: {short_repr(options[wrong])}}})"
            )
        return self._options.changed(options, f"{name}.{method}", own)

    @property
    def _options(self) -> MapOptions:
        return self.task.parallel or MapOptions()

    _submitter: Submitter
    _desk: tuple[Any, Desk]


class OutputClaims:
    """What can be asked of a claimed function besides its result."""

    def __init__(self, function: Decorated[..., Any]) -> None:
        self._function = function

    def path(self, *args: Any, **kwargs: Any) -> Path:
        """Where the output of a call with these arguments lies, or the last of several; raises TemplateError."""
        return self.paths(*args, **kwargs)[-1]

    def paths(self, *args: Any, **kwargs: Any) -> tuple[Path, ...]:
        """Where the files of the output of such a call lie."""
        from manyhands.decorators.gate import output_paths

        return output_paths(self._function, Call(args, kwargs), current_directory())

    def recompute(
        self,
        items: Iterable[Any],
        *,
        star: bool | None = False,
        kwstar: bool = False,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> list[Path]:
        """Removes the outputs of items, and what is known of their failures, so that they are computed anew.

        From then on the outputs in that directory may have another ``fingerprint``. Call it only while no process
        computes any of them, and for all that were computed with the old one.

        Args:
            items, star, kwstar, args, kwargs: as those of a map.

        Returns:
            list[Path]: the outputs that were removed.

        Raises:
            ItemError, TemplateError: an item has no output; nothing was removed.
            OSError: something can't be removed.
        """
        from manyhands.decorators.gate import remove_outputs
        from manyhands.policies.star import StarRule

        rule = StarRule(star, kwstar, cast("tuple[Any, ...]", args), kwargs or {})
        if not isinstance(items, Iterable):
            name = name_of(self._function)
            raise TypeError(f"{name}.claims.recompute takes an iterable of items, not {short_repr(items)}")
        return remove_outputs(
            self._function, [rule.call(*item) for item in enumerate(items)], current_directory()
        )

    def __repr__(self) -> str:
        claim = self._function.task.claim
        finals = ", ".join(repr(template.text) for template in claim.finals) if claim else "none"
        return f"<claims of {name_of(self._function)}: {finals}>"


class ClaimedFunction(Decorated[P, R]):
    """A function with ``@claimed_output``: its results are files, each computed once."""

    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], R], instance: None, owner: type[S]
    ) -> ClaimedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], R], instance: S, owner: type[Any] | None = None
    ) -> ClaimedFunction[Q, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: S, owner: type[Any] | None = None
    ) -> ClaimedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Self: ...
    def __get__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, instance: Any, owner: type[Any] | None = None
    ) -> Any:
        """Binds like a function does."""
        return self._bind(instance, owner)

    @property
    def claims(self) -> OutputClaims:
        """Its outputs."""
        return OutputClaims(self)


class ParallelClaimedFunction(ParallelFunction[P, R], ClaimedFunction[P, R]):
    """A function with both."""

    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], R], instance: None, owner: type[S]
    ) -> ParallelClaimedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], R], instance: S, owner: type[Any] | None = None
    ) -> ParallelClaimedFunction[Q, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: S, owner: type[Any] | None = None
    ) -> ParallelClaimedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Self: ...
    def __get__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, instance: Any, owner: type[Any] | None = None
    ) -> Any:
        """Binds like a function does."""
        return self._bind(instance, owner)


class Unapplied:
    """A decorator that was given its arguments: no function yet."""

    @property
    def misuse(self) -> str:
        """What a message adds that refuses it as a function: what its user may have meant."""
        return ""


def decorated(body: Callable[..., Any], task: Task, kind: Kind) -> Decorated[..., Any]:
    """The callable of the type that fits the task; raises TypeError if its parts don't go together."""
    if task.claim is not None and any(budget.handle_error for budget in task.retries):
        raise TypeError(
            f"{name_of(body)}: handle_error of @retry_on can't be used with @claimed_output: whether an output is "
            f"tried again is decided by all processes that share it"
        )
    if task.claim is not None and task.validation is not None and task.validation.checks_result("parent"):
        raise TypeError(
            f"{name_of(body)}: its output is published in the worker, so @validated(result_in='parent') would check "
            f"it too late"
        )
    cls: type[Decorated[..., Any]]
    if task.parallel is not None:
        cls = ParallelFunction if task.claim is None else ParallelClaimedFunction
    else:
        cls = Decorated if task.claim is None else ClaimedFunction
    return cls(body, task, kind)


def unwrapped(function: Any, decorator: str) -> tuple[Callable[..., Any], Task, Kind]:
    """Body, plan so far and kind of what a decorator is applied to.

    Raises:
        TypeError: it can't be decorated.
    """
    kind: Kind = "function"
    while isinstance(function, classmethod | staticmethod):
        kind = "classmethod" if isinstance(function, classmethod) else "staticmethod"
        function = function.__func__
    task = Task()
    if isinstance(function, Unapplied):
        raise TypeError(f"{decorator} takes a function, not {short_repr(function)}{function.misuse}")
    if isinstance(function, Decorated):
        if function._prefix:
            raise TypeError(f"{decorator} can't be applied to the bound {function!r}; decorate it in its class")
        if kind == "function":
            kind = function._kind
        function, task = function._body, function.task
    if not callable(function):
        raise TypeError(f"{decorator} takes a function, not {short_repr(function)}")
    inner = innermost(function)
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"{decorator} can't be applied to {name_of(inner)}: an async function has no place here"
        )
    if inspect.isgeneratorfunction(inner):
        raise TypeError(
            f"{decorator} can't be applied to {name_of(inner)}: a generator function returns no result"
        )
    return function, task, kind


def _found_by_name(function: Decorated[..., Any]) -> Any:
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "<nameless>").split("."):
        found = getattr(found, part, None)
    return found


def _portable(task: Task) -> Task:
    """The task without what stays in its process: its pool, since in a worker maps run inline, and who is told."""
    options = task.parallel
    if options is None:
        return task
    backend = options.backend if isinstance(options.backend, str) else None
    progress = options.progress if isinstance(options.progress, bool | str) else False
    if backend is options.backend and progress is options.progress:
        return task
    return replace(task, parallel=replace(options, backend=backend, progress=progress))


def _blank(cls: type[Decorated[..., Any]]) -> Decorated[..., Any]:
    return object.__new__(cls)
