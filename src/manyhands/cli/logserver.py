"""``manyhands logserver``: the log server as a program of its own."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from manyhands.logs import LogServer

_ENDS = (signal.SIGINT, signal.SIGTERM)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0: a free one.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Whoever reaches it may write to FILE: listen elsewhere only in a network that you trust.",
)
@click.option(
    "--max-bytes", type=click.IntRange(min=1), help="Before FILE has more, it becomes FILE.1; else never."
)
@click.option("--backups", type=click.IntRange(min=1), default=5, show_default=True, help="FILE.1, FILE.2, ...")
@click.option("--json", "as_json", is_flag=True, help="Print address and counts as JSON.")
def logserver(file: Path, port: int, host: str, max_bytes: int | None, backups: int, as_json: bool) -> None:
    """Write log records that programs send to FILE, a JSON object a line.

    The first line on the standard output is the address, with the port. Give it to JSONLogHandler of
    manyhands.logs in each program. Runs until Ctrl-C or SIGTERM, then writes what has arrived, and its counts
    to the standard error. Exit status 0; 1 if it can't listen or open FILE, 2 if an option is wrong.

    \b
    Example: manyhands logserver --port 9020 --max-bytes 10000000 run.log
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    from manyhands.logs import LogServer

    # Signals wait until they are asked for. Its thread has them held back, too, since it starts after that.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        with _started(LogServer(file, host, port, max_bytes=max_bytes, backups=backups)) as server:
            click.echo(_told(server) if as_json else server.address)
            signal.sigwait(_ENDS)
        click.echo(_counted(server, as_json), err=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _started(server: LogServer) -> LogServer:
    try:
        return server.start()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{where}{error.strerror}") from error


def _told(server: LogServer) -> str:
    return json.dumps(
        {
            "address": server.address,
            "host": server.host,
            "port": server.port,
            "file": str(Path(server.file).absolute()),
        }
    )


def _counted(server: LogServer, as_json: bool) -> str:
    counts = {"received": server.received, "dropped": server.dropped, "rejected": server.rejected}
    if as_json:
        return json.dumps(counts)
    return (
        f"{server.received} records received, {server.dropped} of them dropped, "
        f"{server.rejected} connections rejected"
    )
