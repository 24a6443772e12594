"""The log server with real clients: handlers in processes that are killed and forked, and clients that send garbage."""

from __future__ import annotations

import json
import logging
import logging.config
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from manyhands.logs import JSONLogHandler, LogServer
from manyhands.logs import server as log_server
from manyhands.logs.wire import HEADER, frame
from tests.helpers import finish, run_script, started, until, write_script

SENDS = """
    import logging, os, sys
    from manyhands.logs import JSONLogHandler
    address, *rest = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, handlers=[JSONLogHandler(address)])
"""


def messages(path: Path) -> list[str]:
    """Of all files, the oldest first."""
    backups = sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: -int(each.suffix[1:]))
    return [json.loads(line)["message"] for file in [*backups, path] for line in file.read_text().splitlines()]


@pytest.fixture
def logger() -> Iterator[Callable[..., tuple[logging.Logger, JSONLogHandler]]]:
    """Makes loggers with a handler of their own, which are closed after the test."""
    with ExitStack() as stack:

        def make(address: str, **options: Any) -> tuple[logging.Logger, JSONLogHandler]:
            handler = stack.enter_context(closing(JSONLogHandler(address, **options)))
            made = logging.Logger("client", logging.INFO)  # noqa: LOG001  # nobody else has it
            made.addHandler(handler)
            return made, handler

        yield make


Make = Callable[..., tuple[logging.Logger, JSONLogHandler]]


def connected(server: LogServer) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=90)


def is_closed(end: socket.socket) -> bool:
    """Waits until the server has closed this connection."""
    try:
        return end.recv(1) == b""
    except ConnectionResetError:  # with something of ours unread
        return True


# -- what arrives ---------------------------------------------------------------------------------------------


def test_many_processes(tmp_path: Path) -> None:
    """Each record of several processes with threads is in exactly one file, whole, and in order by thread."""
    script = write_script(
        tmp_path / "script.py",
        SENDS
        + """
    import threading
    def run(thread):
        for number in range(150):
            logging.info("%s %d %d", rest[0], thread, number, extra={"filling": "x" * (number % 50)})
    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """,
    )
    path = tmp_path / "logs" / "log"
    path.parent.mkdir()
    with LogServer(path, max_bytes=10_000, backups=1000) as server, ExitStack() as stack:
        for program in [stack.enter_context(started(script, server.address, name)) for name in "ab"]:
            assert finish(program) == ""
    told = [tuple(message.split()) for message in messages(path)]
    assert sorted(told) == sorted((a, str(b), str(c)) for a in "ab" for b in range(3) for c in range(150))
    for name in "ab":
        for thread in "012":
            assert [number for *who, number in told if who == [name, thread]] == [str(n) for n in range(150)]
    assert (server.received, server.dropped, server.rejected) == (900, 0, 0)
    assert len(list(path.parent.iterdir())) > 5 and all(
        f.stat().st_size <= 10_000 for f in path.parent.iterdir()
    )


def test_a_killed_client(tmp_path: Path) -> None:
    """What a process has logged before it is killed is there, to the last record."""
    script = write_script(
        tmp_path / "script.py",
        SENDS + "    for number in range(100): logging.info('%d', number)\n    os.kill(os.getpid(), 9)\n",
    )
    with LogServer(tmp_path / "log") as server:
        run_script(script, server.address, status=-signal.SIGKILL)
    assert messages(tmp_path / "log") == [str(number) for number in range(100)]
    assert server.rejected == 0


def test_a_forked_client(tmp_path: Path) -> None:
    """Parent and child of a fork have connections of their own; what waited in the parent is sent once, by it."""
    script = write_script(
        tmp_path / "script.py",
        """
    import logging, os, socket, sys
    from manyhands.logs import JSONLogHandler, LogServer
    holder = socket.create_server(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    holder.close()
    handler = JSONLogHandler(f"127.0.0.1:{port}")
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.info("waits")
    if (child := os.fork()) == 0:
        assert "0 waiting, 0 dropped" in repr(handler)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with LogServer(sys.argv[1], port=port) as server:
        handler.flush()
        if (child := os.fork()) == 0:
            assert "closed" in repr(server)
            server.close()
            for number in range(50): logging.info("child %d", number)
            assert "connected, 0 waiting" in repr(handler)
            os._exit(0)
        for number in range(50): logging.info("parent %d", number)
        assert os.waitpid(child, 0)[1] == 0
        handler.close()
    print(server.received, server.dropped, server.rejected)
    """,
    )
    assert run_script(script, tmp_path / "log") == "101 0 0\n"
    told = messages(tmp_path / "log")
    assert told[0] == "waits"
    for who in ("parent", "child"):
        assert [message for message in told if message.startswith(who)] == [f"{who} {n}" for n in range(50)]


def test_a_forked_server(tmp_path: Path) -> None:
    """A fork of the server's process keeps nothing of it: when it is closed, the port and the file are free."""
    script = write_script(
        tmp_path / "script.py",
        """
    import os, sys
    from manyhands.logs import LogServer
    server = LogServer(sys.argv[1]).start()
    mine, other = os.pipe()
    if (child := os.fork()) == 0:
        os.close(other)
        os.read(mine, 1)
        os._exit(0)
    server.close()
    LogServer(sys.argv[1], port=server.port).start().close()
    os.close(other)
    assert os.waitpid(child, 0)[1] == 0
    """,
    )
    run_script(script, tmp_path / "log")


def test_closing_takes_all_that_has_arrived(tmp_path: Path, logger: Make) -> None:
    """What was sent before ``close`` is written, also by clients that were not accepted before."""
    for _ in range(5):
        with LogServer(tmp_path / "log") as server:
            for _ in range(10):
                logger(server.address)[0].info("one")
        assert server.received == 10
    assert messages(tmp_path / "log") == ["one"] * 50
    server.close()


def test_closing_beside_one_who_never_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends without a pause does not keep the server from ending."""
    monkeypatch.setattr(log_server, "_DRAIN_SECONDS", 0.2)
    stop = threading.Event()

    def send() -> None:
        try:
            while not stop.is_set():
                end.sendall(frame(b"{}") * 100)
        except OSError:
            pass

    with LogServer(tmp_path / "log") as server, connected(server) as end:
        sender = threading.Thread(target=send)
        sender.start()
        until(lambda: server.received > 1000, "it has read something")
        server.close()
    stop.set()
    sender.join()
    assert len((tmp_path / "log").read_bytes()) == 3 * server.received


def test_the_end_of_the_program(tmp_path: Path) -> None:
    """A server that nobody closes writes what has arrived when its program ends."""
    script = write_script(
        tmp_path / "script.py",
        """
    import logging, sys
    from manyhands.logs import JSONLogHandler, LogServer
    server = LogServer(sys.argv[1]).start()
    logging.basicConfig(level=logging.INFO, handlers=[JSONLogHandler(server.address)])
    for number in range(1000): logging.info("%d", number)
    """,
    )
    run_script(script, tmp_path / "log")
    assert messages(tmp_path / "log") == [str(number) for number in range(1000)]


# -- clients that misbehave -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        HEADER.pack(1 << 31),
        frame(b"\x80\x04\x95pickle"),
        frame(b"[]"),
        frame(b"{}") + frame(b""),
    ],
    ids=["http", "long", "pickle", "list", "empty"],
)
def test_garbage(tmp_path: Path, logger: Make, garbage: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Who sends garbage is cut off and counted; others keep their connection; the console is silent."""
    with LogServer(tmp_path / "log") as server:
        speaker, handler = logger(server.address)
        speaker.info("before")
        connection = handler._socket
        with connected(server) as end:
            end.sendall(garbage)
            assert is_closed(end)
        speaker.info("after")
        assert handler._socket is connection
    assert server.rejected == 1
    told = [json.loads(line).get("message") for line in (tmp_path / "log").read_text().splitlines()]
    assert [message for message in told if message] == ["before", "after"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ends", ["reset", "closed"])
def test_half_a_record(tmp_path: Path, ends: str) -> None:
    """Who goes in the midst of a record is counted, and the half is nowhere."""
    with LogServer(tmp_path / "log") as server:
        with connected(server) as end:
            end.sendall(frame(b'{"message": "whole"}') + frame(b'{"message": "half"}')[:-3])
            until(lambda: server.received, "the first has arrived")
            if ends == "reset":
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        until(lambda: server.rejected, "it was noticed")
    assert messages(tmp_path / "log") == ["whole"]
    assert (server.received, server.rejected) == (1, 1)


def test_a_slow_one(tmp_path: Path) -> None:
    """Who keeps a record back for longer than ``patience`` is cut off, even if a byte comes now and then."""
    with (
        LogServer(tmp_path / "log", patience=0.05) as server,
        connected(server) as slow,
        connected(server) as idle,
    ):
        idle.sendall(frame(b'{"message": "1"}'))
        data = iter(frame(b'{"message": "' + b"x" * 100_000 + b'"}'))

        def is_cut_off() -> bool:
            try:
                slow.send(bytes([next(data)]))
            except OSError:
                pass
            return server.rejected == 1

        until(is_cut_off, "it is cut off")
        idle.sendall(frame(b'{"message": "2"}'))
        until(lambda: server.received == 2, "the one without half a record stays")
    assert (server.received, server.rejected) == (2, 1)


def test_more_clients_than_places(tmp_path: Path, logger: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """More clients than there are places wait, give way and come back; no record is lost or there twice."""
    monkeypatch.setattr(log_server, "_LOOK_SECONDS", 0.05)
    with LogServer(tmp_path / "log", max_connections=2, patience=0.01) as server:
        clients = [logger(server.address)[0] for _ in range(6)]
        for turn in range(2):
            for number, client in enumerate(clients):
                client.info("%d %d", number, turn)
            until(lambda turn=turn: server.received == 6 * (turn + 1), "all have had their place")
            assert sum(not each.is_refused for each in list(server._connections)) <= 2
    assert sorted(messages(tmp_path / "log")) == sorted(f"{n} {turn}" for n in range(6) for turn in range(2))
    assert (server.received, server.rejected) == (12, 0)


def test_who_gives_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that has to go is told so, and what it sends before it goes is written."""
    monkeypatch.setattr(log_server, "_LEAVE_SECONDS", 60.0)
    monkeypatch.setattr(log_server, "_LOOK_SECONDS", 0.05)
    with LogServer(tmp_path / "log", max_connections=1, patience=0.01) as server, connected(server) as first:
        first.sendall(frame(b'{"message": "1"}'))
        until(lambda: server.received == 1, "it is there")
        with connected(server) as second:
            second.sendall(frame(b'{"message": "2"}'))
            assert first.recv(1) == b""
            until(lambda: server.received == 2, "the second has its place")
            first.sendall(frame(b'{"message": "3"}'))
            until(lambda: server.received == 3, "the first was heard")
    assert messages(tmp_path / "log") == ["1", "2", "3"]


def test_no_more_descriptors(tmp_path: Path, logger: Make) -> None:
    """A server without free descriptors serves those who are there, and the others when it has some again."""
    script = write_script(
        tmp_path / "script.py",
        """
    import resource, sys
    from manyhands.logs import LogServer
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
    with LogServer(sys.argv[1]) as server:
        print(server.address, flush=True)
        sys.stdin.read()
    print(server.received, server.rejected)
    """,
    )
    with started(script, tmp_path / "log", stdin=subprocess.PIPE) as program:
        address = program.stdout.readline().strip()
        clients = [logger(address) for _ in range(30)]
        for speaker, _ in clients:
            speaker.info("one")
        until(lambda: len(messages(tmp_path / "log")) > 5, "the first ones are served")
        for _, handler in clients:
            handler.close()
        until(lambda: len(messages(tmp_path / "log")) == 30, "all are served")
        assert finish(program) == "30 0\n"


# -- servers that are away, or slow ---------------------------------------------------------------------------


def test_a_server_that_was_killed_and_comes_back(tmp_path: Path, logger: Make) -> None:
    """What is logged while the server is away waits for the next one on its port, in order, and nothing is raised."""
    script = write_script(tmp_path / "server.py", "import manyhands.cli; manyhands.cli.main()")
    with started(script, "logserver", tmp_path / "log") as first:
        address = first.stdout.readline().strip()
        speaker, handler = logger(address)
        speaker.info("1")
        until(lambda: (tmp_path / "log").read_bytes(), "the first is written")
        first.kill()
        first.wait()
        for number in range(2, 30):
            speaker.info("%d", number)
        assert "not connected, 28 waiting, 0 dropped" in repr(handler)
    with LogServer(tmp_path / "log", port=int(address.rpartition(":")[2])):
        handler.flush()
        speaker.info("30")
    assert messages(tmp_path / "log") == [str(number) for number in range(1, 31)]
    assert handler.dropped == 0


def test_a_server_that_was_closed_in_order(tmp_path: Path, logger: Make) -> None:
    """A client notices, with its next record, that the server has ended, and loses not one to it."""
    server = LogServer(tmp_path / "log").start()
    speaker, handler = logger(server.address)
    for turn in range(3):
        speaker.info("%d", turn)
        server.close()
        speaker.info("%d, while it is away", turn)
        server = LogServer(tmp_path / "log", port=server.port).start()
        handler.flush()
    server.close()
    assert messages(tmp_path / "log") == [
        f"{turn}{more}" for turn in range(3) for more in ("", ", while it is away")
    ]


def test_no_server_at_all(tmp_path: Path) -> None:
    """Without a server the program runs to its end and nothing is told on the console; bounds hold."""
    script = write_script(
        tmp_path / "script.py",
        """
    import atexit, logging, socket
    from manyhands.logs import JSONLogHandler
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = "127.0.0.1:%d" % nobody.getsockname()[1]
    handler = JSONLogHandler(address, timeout=0.1, max_pending=10_000)
    atexit._clear()
    atexit.register(lambda: print(handler.dropped))
    atexit.register(logging.shutdown)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for number in range(1000): logging.info("%d", number)
    assert handler._waiting <= 10_000 and handler.dropped + len(handler._pending) == 1000, handler
    """,
    )
    with started(script) as program:
        out, err = program.communicate(timeout=90)
    assert (out, err, program.returncode) == ("1000\n", "", 0)


def test_a_server_that_does_not_read(logger: Make) -> None:
    """A server that stands still costs the program a bounded time and memory; what goes nowhere is counted."""
    with socket.create_server(("127.0.0.1", 0)) as still:
        still.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        speaker, handler = logger(
            f"127.0.0.1:{still.getsockname()[1]}", timeout=0.05, max_pending=100_000, max_record=1 << 20
        )
        for _ in range(600):
            speaker.info("x" * 20_000)
        assert handler.dropped > 0 and 0 < handler._waiting <= 100_000
        dropped, waiting = handler.dropped, len(handler._pending)
        handler.close()
        assert handler.dropped == dropped + waiting and not handler._pending


def test_a_slow_server_loses_nothing(tmp_path: Path, logger: Make) -> None:
    """A client that is faster than the server waits for it, and drops nothing."""
    with LogServer(tmp_path / "log") as server:
        speaker, handler = logger(server.address, max_pending=1 << 16, timeout=60)
        for _ in range(400):
            speaker.info("x" * 30_000)
        handler.close()
    assert (server.received, handler.dropped) == (400, 0)


def test_a_disk_without_room(tmp_path: Path, logger: Make) -> None:
    """Records that can't be written are counted, and the server lives on."""
    (tmp_path / "logs").mkdir()
    with LogServer(tmp_path / "logs" / "log") as server:
        speaker, _ = logger(server.address)
        (tmp_path / "logs" / "log").unlink()
        (tmp_path / "logs").rmdir()
        speaker.info("lost")
        until(lambda: server.dropped == 1, "it could not be written")
        (tmp_path / "logs").mkdir()
        speaker.info("kept")
    assert (server.received, server.dropped) == (2, 1)
    assert messages(tmp_path / "logs" / "log") == ["kept"]


# -- the handler ----------------------------------------------------------------------------------------------


class Narrow:
    """A socket that takes a few bytes at a time, and logs while it is at it."""

    def __init__(self, end: socket.socket, speaker: logging.Logger) -> None:
        self._end = end
        self._speaker = speaker
        self.is_new = True

    def send(self, data: bytes) -> int:
        if self.is_new:
            self.is_new = False
            self._speaker.info("from within")
        return self._end.send(data[:7])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._end, name)


def put_in_between(handler: Any, narrow: Narrow) -> None:
    handler._socket = narrow


def test_logging_while_it_sends(tmp_path: Path, logger: Make) -> None:
    """A signal's handler, or a finaliser, that logs amid a record does not tear it; its own follows."""
    with LogServer(tmp_path / "log") as server:
        speaker, handler = logger(server.address)
        speaker.info("first")
        put_in_between(handler, Narrow(handler._socket, speaker))
        speaker.info("second")
        speaker.info("third")
    assert messages(tmp_path / "log") == ["first", "second", "from within", "third"]
    assert server.rejected == 0


def test_an_interrupt_while_it_sends(tmp_path: Path, logger: Make) -> None:
    """An interrupt amid a record reaches the program; the record is sent whole with the next one."""

    class Interrupted(Narrow):
        def send(self, data: bytes) -> int:
            self._end.send(data[:7])
            raise KeyboardInterrupt

    with LogServer(tmp_path / "log") as server:
        speaker, handler = logger(server.address)
        speaker.info("first")
        put_in_between(handler, Interrupted(handler._socket, speaker))
        with pytest.raises(KeyboardInterrupt):
            speaker.info("second")
        speaker.info("third")
    assert messages(tmp_path / "log") == ["first", "second", "third"]


def test_a_connection_that_breaks_amid_a_record(tmp_path: Path, logger: Make) -> None:
    """The record is sent whole over a new one."""

    class Breaking(Narrow):
        def send(self, data: bytes) -> int:
            if not self.is_new:
                raise ConnectionResetError
            self.is_new = False
            return self._end.send(data[:7])

    with LogServer(tmp_path / "log") as server:
        speaker, handler = logger(server.address)
        speaker.info("first")
        put_in_between(handler, Breaking(handler._socket, speaker))
        speaker.info("second")
    assert messages(tmp_path / "log") == ["first", "second"]
    assert (server.rejected, handler.dropped) == (1, 0)


def test_a_full_socket(tmp_path: Path, logger: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who logs waits until the socket takes more; after waiting in vain nobody waits for a while."""

    class Full(Narrow):
        def send(self, data: bytes) -> int:
            if self.is_new:
                self.is_new = False
                raise BlockingIOError
            return self._end.send(data)

    class InVain:
        waits: ClassVar[list[float]] = []

        def register(self, *_: object) -> None: ...

        def poll(self, milliseconds: float) -> list[Any]:
            self.waits.append(milliseconds)
            return []

    with LogServer(tmp_path / "log") as server:
        speaker, handler = logger(server.address, timeout=3)
        speaker.info("first")
        full = Full(handler._socket, speaker)
        put_in_between(handler, full)
        speaker.info("second")
        assert "connected, 0 waiting" in repr(handler)
        handler._delay = 1000.0
        with monkeypatch.context() as patch:
            patch.setattr(select, "poll", InVain)
            for number in range(50):
                full.is_new = True
                speaker.info("%d", number)
        assert "connected, 50 waiting" in repr(handler) and InVain.waits == [3000.0]
        handler.flush()
    assert messages(tmp_path / "log") == ["first", "second", *map(str, range(50))]


def test_too_long(tmp_path: Path, logger: Make) -> None:
    """A record that is too long for the server is cut, says so, and does not cost the connection."""
    with LogServer(tmp_path / "log", max_record=1024) as server:
        speaker, _ = logger(server.address, max_record=1024)
        speaker.info("short")
        speaker.info("é\U0001f600" * 5000, extra={"more": "x" * 5000})
        speaker.info("after")
        speaker.info("text", extra={"more": "x" * 5000})
    first, cut, last, other = messages(tmp_path / "log")
    assert (first, last) == ("short", "after")
    assert cut.startswith("é\U0001f600é") and "[cut: this record had" in cut and other.startswith("text...")
    assert (server.received, server.rejected) == (4, 0)


def test_records_that_cannot_be_formatted(
    tmp_path: Path, logger: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong arguments, or a formatter that makes no JSON, are told as logging does; the connection stays."""
    with LogServer(tmp_path / "log") as server:
        speaker, handler = logger(server.address)
        speaker.info("%d", "text")
        assert "Logging error" in capsys.readouterr().err
        handler.setFormatter(logging.Formatter("%(message)s"))
        speaker.info("plain")
        assert "must make one JSON object" in capsys.readouterr().err
        handler.setFormatter(logging.Formatter('{"message": "%(message)s"}'))
        speaker.info("its own")
    assert messages(tmp_path / "log") == ["its own"] and server.rejected == 0


def test_configured_by_a_dictionary(tmp_path: Path) -> None:
    """The handler serves in the configurations of the standard ``logging``, by its public name."""
    with LogServer(tmp_path / "log") as server:
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"json": {"()": "manyhands.logs.JSONFormatter", "fields": ["message", "lineno"]}},
                "handlers": {
                    "server": {
                        "class": "manyhands.logs.JSONLogHandler",
                        "address": server.address,
                        "formatter": "json",
                    }
                },
                "loggers": {"of.a.dictionary": {"level": "INFO", "handlers": ["server"]}},
            }
        )
        speaker = logging.getLogger("of.a.dictionary")
        speaker.info("here")
        handler = speaker.handlers.pop()
        handler.close()
    assert set(json.loads((tmp_path / "log").read_text())) == {"message", "lineno"}


@pytest.mark.parametrize("address", ["127.0.0.1", ":9020", "host:", "host:0", "host:65536", "host:x", "host:٣"])
def test_no_address(address: str) -> None:
    """What is no "host:port" is told, and what would be."""
    with pytest.raises(ValueError, match=r"^address must be 'host:port', such as .*, not "):
        JSONLogHandler(address)


def test_wrong_arguments(tmp_path: Path) -> None:
    """Arguments are checked by name, before a file or a socket is opened."""
    wrong: list[Any] = [
        lambda: JSONLogHandler(("127.0.0.1", 9020)),
        lambda: JSONLogHandler("a:1", timeout=0),
        lambda: JSONLogHandler("a:1", max_pending=0),
        lambda: JSONLogHandler("a:1", max_record=10),
        lambda: LogServer(tmp_path / "log", host=""),
        lambda: LogServer(tmp_path / "log", port=-1),
        lambda: LogServer(tmp_path / "log", port=65536),
        lambda: LogServer(tmp_path / "log", max_bytes=0),
        lambda: LogServer(tmp_path / "log", backups=0),
        lambda: LogServer(tmp_path / "log", max_record="1"),
        lambda: LogServer(tmp_path / "log", max_connections=0),
        lambda: LogServer(tmp_path / "log", patience=0),
    ]
    for call in wrong:
        with pytest.raises((TypeError, ValueError), match=r"^\w+ must be "):
            call()
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """It is told by its number, and the file is free again; a server is started once."""
    with LogServer(tmp_path / "log") as server:
        other = LogServer(tmp_path / "other", port=server.port)
        with pytest.raises(
            OSError, match=f"can't listen on 127.0.0.1, port {server.port}: Address already in use"
        ):
            other.start()
        with pytest.raises(RuntimeError, match="started before"):
            server.start()
    LogServer(tmp_path / "other").start().close()
    with pytest.raises(RuntimeError, match="started before"):
        server.start()
    with pytest.raises(OSError, match=r"can't listen on no\.such\.host\.invalid"):
        LogServer(tmp_path / "other", host="no.such.host.invalid").start()


def test_loopback_only(tmp_path: Path) -> None:
    """Unless asked for, no other address of this machine is listened on."""
    with LogServer(tmp_path / "log") as server:
        assert server._listener.getsockname()[0] == "127.0.0.1"
        assert server.address == f"127.0.0.1:{server.port}"


def test_another_address(tmp_path: Path, logger: Make) -> None:
    """It listens where ``host`` says; an address with colons has brackets, for server and handler."""
    for host in ("localhost", "::1"):
        try:
            server = LogServer(tmp_path / host, host=host).start()
        except OSError:  # a machine without IPv6
            assert host == "::1"
            continue
        with server:
            assert server.address == f"{f'[{host}]' if ':' in host else host}:{server.port}"
            logger(server.address)[0].info("here")
        assert messages(tmp_path / host) == ["here"]


# -- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The command line, as a script."""
    return write_script(tmp_path / "command.py", "import manyhands.cli; manyhands.cli.main()")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_command(tmp_path: Path, command: Path, logger: Make, signum: signal.Signals) -> None:
    """It prints the address first, and ends by either signal with all that has arrived, its counts, and status 0."""
    options = ["--port", "0", "--max-bytes", "500", "--backups", "99"]
    with started(command, "logserver", *options, tmp_path / "log") as program:
        speaker, _ = logger(program.stdout.readline().strip())
        for number in range(100):
            speaker.info("%d", number)
        program.send_signal(signum)
        out, err = program.communicate(timeout=90)
    assert (program.returncode, out) == (0, "")
    assert err == "100 records received, 0 of them dropped, 0 connections rejected\n"
    (tmp_path / "command.py").unlink()
    assert messages(tmp_path / "log") == [str(number) for number in range(100)]


def test_the_command_for_machines(tmp_path: Path, command: Path) -> None:
    """With --json, address and counts are JSON, a line each."""
    with started(command, "logserver", "--json", tmp_path / "log") as program:
        told = json.loads(program.stdout.readline())
        assert told == {
            "address": f"127.0.0.1:{told['port']}",
            "host": "127.0.0.1",
            "port": told["port"],
            "file": str(tmp_path / "log"),
        }
        program.terminate()
        _, err = program.communicate(timeout=90)
    assert json.loads(err) == {"received": 0, "dropped": 0, "rejected": 0}


def test_the_command_cannot(tmp_path: Path) -> None:
    """What it can't do is one line that says why, and status 1."""
    from manyhands.cli.logserver import logserver

    with LogServer(tmp_path / "log") as server:
        for arguments, why in [
            ([tmp_path / "log"], f"Error: {tmp_path / 'log'}: another log server writes to it\n"),
            ([tmp_path / "no" / "log"], f"Error: {tmp_path / 'no' / 'log'}: No such file or directory\n"),
            (
                ["--port", server.port, tmp_path / "other"],
                f"Error: can't listen on 127.0.0.1, port {server.port}: Address already in use\n",
            ),
        ]:
            ran = CliRunner().invoke(logserver, [str(argument) for argument in arguments])
            assert (ran.exit_code, ran.stdout, ran.stderr) == (1, "", why)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())  # signals are no longer held back
