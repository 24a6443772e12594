"""The report's page in a real browser: each part is drawn, light and dark, narrow and printed, without a network."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands.reporting.page import write_page
from manyhands.reporting.recording import Recording
from manyhands.reporting.spans import Status
from tests.browser.chromium import Browser, Tab, browser, colours, executable

pytestmark = pytest.mark.skipif(
    executable() is None, reason="Chromium is not installed (apt-get install chromium)"
)

PARTS = ("header", "#timeline", "#failures", "#retries", "#durations", "#slowest", "#memory", "#maps")
HOSTILE = "</script><img src=x onerror=alert(1)>\ud800'\""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here."""
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Tab]:
    """A page of its own, which at the end has logged nothing and asked for nothing but the file that it is."""
    tab = chromium.tab()
    yield tab
    assert tab.console == []
    assert [address for address in tab.requests if not address.startswith("file://")] == []
    assert len(tab.requests) == tab.opened
    tab.close()


def run_of(host: str, tasks: int, begun: float) -> Recording:
    """A made-up run of four workers, the same each time: failures, retries, gaps, and a hostile item."""
    draw = random.Random(host)
    recording = Recording("photos.count_objects", begun, 4, tasks, host)
    free = [0.1 * worker for worker in range(4)]
    for index in range(tasks):
        worker = free.index(min(free))
        took = draw.lognormvariate(-3, 0.8)
        status: Status = "failed" if index % 97 == 5 else "retried" if index % 31 == 7 else "value"
        item = HOSTILE if index == 3 else f"plate-{index:06d}.png"
        recording.span(f"{host}:{4000 + worker}", free[worker], took, status=status, index=index, item=item)
        free[worker] += took + (0.5 if index % 211 == 50 else 0.001)
        if status == "retried":
            recording.span(f"{host}:{4000 + worker}", free[worker], took, index=index, item=item, attempt=2)
            free[worker] += took
        if status == "failed":
            text = f'Traceback (most recent call last):\n  File "photos.py", line {index % 2}\n    {HOSTILE}'
            recording.failed(index, item, "ValueError", HOSTILE, text, 1, f"{host}:{4000 + worker}")
    for worker in range(4):
        recording.peak(f"{host}:{4000 + worker}", (worker + 1) * 50_000_000)
    recording.counts(tasks - tasks // 97 - 1, tasks // 97 + 1)
    recording.ended(max(free))
    return recording


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two maps on two hosts."""
    path = tmp_path_factory.mktemp("report") / "run.html"
    write_page(path, [run_of("atlas", 400, 1.7e9), run_of("borea", 300, 1.7e9 + 3)])
    return path


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, ``rgb(r, g, b)`` each, as WCAG defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (1100, True), (390, False)])
def test_every_part_is_drawn(tab: Tab, report: Path, width: int, dark: bool) -> None:
    """Each part's region has more than one colour, the ground is light or dark, and it is no wider than the screen."""
    tab.emulate(width=width, dark=dark)
    tab.open(report)
    for part in PARTS:
        assert len(colours(tab.screenshot(part, scale=0.25))) > 5, part
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (_luminance(ground) < 0.2) == dark
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def share(tab: Tab, selector: str, name: str) -> float:
    """How much of an element has a colour of the page's, which has a name."""
    colour = tab.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
    found = colours(tab.screenshot(selector))
    return found[bytes.fromhex(colour[1:])] / found.total()


def test_what_ran_is_drawn(tab: Tab, report: Path) -> None:
    """A worker that was busy nearly all the time has a row full of it, with its failures; bars fill their charts."""
    tab.emulate(width=1100)
    tab.open(report)
    assert share(tab, "svg.track", "--accent") > 0.5
    assert share(tab, "svg.track", "--bad") > 0.001
    assert share(tab, "svg.track", "--room") > 0.01
    assert share(tab, "svg.histogram", "--accent") > 0.1
    assert share(tab, "svg.strip", "--accent") > 0.8
    assert share(tab, "svg.meter", "--accent") > 0.8


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_can_be_read(tab: Tab, report: Path, dark: bool) -> None:
    """Texts of all colours, and what is drawn, stand out from what is behind them, as WCAG asks."""
    tab.emulate(width=1100, dark=dark)
    tab.open(report)
    found = tab.evaluate(
        """(() => {
            const ground = getComputedStyle(document.body).backgroundColor, found = [];
            for (const each of document.querySelectorAll("body *")) {
                const style = getComputedStyle(each);
                const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
                if (own && !each.closest("svg, script, pre")) found.push([style.color, ground, 4.5, each.className]);
                if (own && each.closest("pre")) found.push([style.color, style.backgroundColor, 4.5, "pre"]);
                if (each.matches("svg text")) found.push([style.fill, ground, 4.5, "svg text"]);
                if (each.matches(".track path:not(.grid)")) found.push([style.fill, ground, 3, each.className.baseVal]);
            }
            return found;
        })()"""
    )
    assert len(found) > 100
    assert [each for each in found if contrast(each[0], each[1]) < each[2]] == []


def test_pointing_at_the_timeline_tells(tab: Tab, report: Path) -> None:
    """What is pointed at is told: its item, as it is called, and how long it took; beside, nothing is."""
    tab.emulate(width=1100)
    tab.open(report)
    cells = json.loads(tab.evaluate("document.getElementById('cells').textContent"))["rows"]
    row, cell = next((row, cell) for row, each in enumerate(cells) for cell in each if len(cell) < 5)
    tab.evaluate(f"document.querySelectorAll('svg.track')[{row}].scrollIntoView({{block: 'center'}})")
    left, top, width = tab.evaluate(
        f"(() => {{ const box = document.querySelectorAll('svg.track')[{row}].getBoundingClientRect();"
        "return [box.x, box.y, box.width]; })()"
    )
    at = left + (cell[0] + cell[1] / 2) / 10_000 * width
    tab.do("Input.dispatchMouseEvent", type="mouseMoved", x=at, y=top + 8)
    told = tab.evaluate("document.querySelector('#tip:not([hidden])').textContent")
    assert f"item {cell[2]}" in told
    assert "took" in told
    tab.do("Input.dispatchMouseEvent", type="mouseMoved", x=left - 50, y=top + 8)
    assert tab.evaluate("document.querySelector('#tip').hidden")


def test_hostile_texts_are_shown(tab: Tab, report: Path) -> None:
    """A message that looks like markup is text in the page, and nothing of it was run or loaded."""
    tab.emulate(width=1100)
    tab.open(report)
    assert tab.evaluate("document.querySelectorAll('img').length") == 0
    shown = "</script><img src=x onerror=alert(1)>\\ud800'\""
    assert shown in tab.evaluate("document.querySelector('#failures').textContent")


def test_it_works_without_scripts(tab: Tab, report: Path) -> None:
    """With scripts off all is drawn, and rows tell what they are by themselves."""
    tab.emulate(width=1100, scripts=False)
    tab.open(report)
    assert share(tab, "svg.track", "--accent") > 0.5
    assert tab.evaluate("document.querySelectorAll('svg.track > title').length") == 8


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_it_is_printed_with_all_there_is(tab: Tab, report: Path, scripts: bool) -> None:
    """On paper details are open, and the ground is white, though the screen is dark."""
    tab.emulate(width=1100, dark=True, scripts=scripts)
    tab.open(report)
    shown = "document.querySelector('#failures pre').innerText"
    assert tab.evaluate(shown) == ""
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    tab.do("Emulation.setEmulatedMedia", media="print", features=[dark])
    if scripts:
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert "Traceback" in tab.evaluate(shown)
    ground, ink = tab.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    assert ground == "rgb(255, 255, 255)"
    assert contrast(ground, ink) > 7
    assert tab.pdf().startswith(b"%PDF")


def test_a_hundred_thousand_tasks_are_drawn(tab: Tab, tmp_path: Path) -> None:
    """The page of a long run is drawn as any other."""
    path = tmp_path / "run.html"
    write_page(path, [run_of("atlas", 100_000, 1.7e9)])
    tab.emulate(width=1100)
    tab.open(path)
    assert len(colours(tab.screenshot("#timeline", scale=0.25))) > 5
    assert tab.evaluate("document.querySelectorAll('svg.track').length") == 4
