"""A headless Chromium, told what to do over a pair of pipes by the DevTools protocol; no other tool is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def executable() -> str | None:
    """Where Chromium is, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Tab:
    """One page; what it logs and asks the network for is kept.

    Attributes:
        target: its name.
        session: what messages about it carry.
        console: errors and warnings of the page's console, and exceptions of its scripts.
        requests: the addresses that it asked for.
        opened: how many files it was told to show.
    """

    browser: Browser
    target: str
    session: str
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    opened: int = 0

    def do(self, method: str, **parameters: Any) -> Any:
        return self.browser.do(method, self.session, **parameters)

    def open(self, path: Path) -> None:
        """Shows a file; returns when it is loaded."""
        self.opened += 1
        self.do("Page.navigate", url=path.as_uri())
        self.browser.wait_for("Page.loadEventFired", self.session)
        self.do("Runtime.evaluate", expression="document.fonts.ready", awaitPromise=True)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def emulate(self, *, width: int, dark: bool = False, scripts: bool = True) -> None:
        self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])
        self.do("Emulation.setScriptExecutionDisabled", value=not scripts)

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is on the page."""
        text = json.dumps(selector)
        found = self.evaluate(
            f"(() => {{ const box = document.querySelector({text}).getBoundingClientRect();"
            "return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height}; })()"
        )
        assert isinstance(found, dict)
        return found

    def screenshot(self, selector: str = "html", scale: float = 1.0) -> bytes:
        """A picture of an element, as PNG."""
        clip = {**self.box(selector), "scale": scale}
        found = self.do("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def close(self) -> None:
        self.browser.do("Target.closeTarget", None, targetId=self.target)

    def pdf(self) -> bytes:
        """The page as it is printed."""
        found = self.do("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
        return base64.b64decode(found["data"])


class Browser:
    """A running Chromium, with a profile of its own in ``directory``."""

    def __init__(self, directory: Path) -> None:
        found = executable()
        assert found is not None
        here_read, there_write = os.pipe()
        there_read, here_write = os.pipe()
        # The browser reads from descriptor 3 and writes to 4; sh may know none above 9.
        command = ["bash", "-c", f'exec "$@" 3<&{there_read} 4>&{there_write}', "bash", found, *FLAGS]
        environment = {
            **os.environ,
            "HOME": str(directory),
            "TMPDIR": str(directory),
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        }
        with (directory / "stderr").open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, f"--user-data-dir={directory / 'profile'}"],
                pass_fds=(there_read, there_write),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        os.close(there_read)
        os.close(there_write)
        self._from = os.fdopen(here_read, "rb", buffering=0)
        self._to = os.fdopen(here_write, "wb", buffering=0)
        self._rest = b""
        self._count = 0
        self._tabs: dict[str, Tab] = {}
        self._seen: list[dict[str, Any]] = []

    def tab(self) -> Tab:
        """A new page, the network of which is watched."""
        target = self.do("Target.createTarget", None, url="about:blank")["targetId"]
        session = self.do("Target.attachToTarget", None, targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.do(f"{domain}.enable")
        return tab

    def do(self, method: str, session: str | None, **parameters: Any) -> Any:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        self._to.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            pass
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def wait_for(self, method: str, session: str) -> None:
        """Waits until an event was told of that was not waited for yet."""
        while not any(each["method"] == method and each.get("sessionId") == session for each in self._seen):
            self._next()
        self._seen.clear()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = self._from.read(1 << 16)
            assert data, "the browser has gone"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._seen.append(message)
            self._note(message["method"], message["params"], self._tabs.get(message.get("sessionId", "")))
        return message

    def _note(self, method: str, told: dict[str, Any], tab: Tab | None) -> None:
        if tab is None:
            return
        if method == "Runtime.exceptionThrown":
            tab.console.append(str(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            tab.console.append(str(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            tab.console.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            tab.requests.append(told["request"]["url"])

    def close(self) -> None:
        """Ends it, and all that it started."""
        try:
            self.do("Browser.close", None)
            while self._from.read(1 << 16):
                pass
            self.process.wait()
        except (AssertionError, OSError):  # it has ended by itself
            pass
        self._to.close()
        self._from.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A browser for as long as the block lasts."""
    opened = Browser(directory)
    try:
        yield opened
    finally:
        opened.close()


def colours(png: bytes) -> Counter[bytes]:
    """The colours in a picture of eight bits a channel, three bytes each, and how many pixels have them."""
    width, height, depth, kind = (
        int.from_bytes(png[16:20]),
        int.from_bytes(png[20:24]),
        png[24],
        png[25],
    )
    assert depth == 8
    size = {2: 3, 6: 4}[kind]
    data, at = b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    data = zlib.decompress(data)
    found: Counter[bytes] = Counter()
    above = bytearray(width * size)
    for line in range(height):
        start = line * (width * size + 1)
        row = _unfiltered(data[start], bytearray(data[start + 1 : start + 1 + width * size]), above, size)
        found.update(bytes(row[x : x + 3]) for x in range(0, len(row), size))
        above = row
    return found


def _unfiltered(kind: int, row: bytearray, above: bytearray, size: int) -> bytearray:
    if kind == 2:
        return bytearray((one + two) & 255 for one, two in zip(row, above, strict=True))
    for at in range(len(row) if kind else 0):
        left = row[at - size] if at >= size else 0
        corner = above[at - size] if at >= size else 0
        if kind == 1:
            more = left
        elif kind == 3:
            more = (left + above[at]) // 2
        else:
            guess = left + above[at] - corner
            more = min((left, above[at], corner), key=lambda value: abs(guess - value))
        row[at] = (row[at] + more) & 255
    return row
