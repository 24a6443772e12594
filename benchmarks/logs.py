"""S: log records from several processes into one file, through a server."""

from __future__ import annotations

import logging
import logging.handlers
import pickle
import signal
import socketserver
import struct
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

from benchmarks.measure import Measure, Note

CLIENTS = 4
RECORDS = 10_000
"""Of each client."""


def through(server: str, handler: str, note: Note) -> None:
    """Notes what a record takes, from the first call of a logger to the end of the server, and how many came."""
    with _started("serve", server) as serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().strip()
        clients = [_started("send", handler, address, str(number)) for number in range(CLIENTS)]
        for client in clients:
            assert client.stdout is not None
            client.stdout.readline()  # it is ready
        start = time.perf_counter()
        for client in clients:
            client.communicate("go\n")
        sent = time.perf_counter() - start
        serving.send_signal(signal.SIGTERM)
        serving.communicate()
        took = time.perf_counter() - start
    note(microseconds=took / (CLIENTS * RECORDS) * 1e6, per_second=CLIENTS * RECORDS / took, sent_in=sent)
    note(arrived=Path("records.log").read_bytes().count(b"\n"))


def _started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.logs", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# -- in processes of their own -------------------------------------------------------------------------------


def serve(kind: str) -> None:
    """Runs a server until SIGTERM; prints its address."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    if kind == "manyhands":
        from manyhands.logs import LogServer

        with LogServer("records.log") as server:
            print(server.address, flush=True)
            signal.sigwait([signal.SIGTERM])
        return
    file = logging.FileHandler("records.log")
    if kind == "cookbook, JSON":
        from manyhands.logs import JSONFormatter

        file.setFormatter(JSONFormatter())
    else:
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(process)d %(message)s"))
    logging.getLogger().addHandler(file)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Unpickling) as cookbook:
        threading.Thread(target=cookbook.serve_forever, daemon=True).start()
        print(f"127.0.0.1:{cookbook.server_address[1]}", flush=True)
        signal.sigwait([signal.SIGTERM])
        cookbook.shutdown()


class Unpickling(socketserver.StreamRequestHandler):
    """What the logging cookbook does: it trusts whoever connects."""

    def handle(self) -> None:
        while len(header := self.rfile.read(4)) == 4:
            (length,) = struct.unpack(">L", header)
            record = logging.makeLogRecord(pickle.loads(self.rfile.read(length)))
            logging.getLogger(record.name).handle(record)


def send(kind: str, address: str, number: str) -> None:
    """Logs when it is told to."""
    host, _, port = address.rpartition(":")
    logger = logging.getLogger(f"client.{number}")
    logger.setLevel(logging.INFO)
    if kind == "manyhands":
        from manyhands.logs import JSONLogHandler

        logger.addHandler(JSONLogHandler(address))
    else:
        logger.addHandler(logging.handlers.SocketHandler(host, int(port)))
    logger.info("ready")
    print("ready", flush=True)
    sys.stdin.readline()
    for each in range(RECORDS):
        logger.info("tile %d of %s is done", each, "a.tif", extra={"tile": each})
    logging.shutdown()


MEASURES = [
    Measure(
        "S",
        f"{CLIENTS} processes log {RECORDS:,} records each: microseconds a record, to the end of the server",
        {
            "manyhands": partial(through, "manyhands", "manyhands"),
            "cookbook, text": partial(through, "cookbook, text", "cookbook"),
            "cookbook, JSON": partial(through, "cookbook, JSON", "cookbook"),
        },
        ("microseconds", "per_second", "sent_in", "arrived"),
        base="cookbook, JSON",
    )
]

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        send(*sys.argv[2:])
