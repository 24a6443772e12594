"""README.md and docs/: every link leads somewhere, and every Python block that is marked as run does."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
SECONDS = 120.0
"""How long all blocks of a page may take together."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(
    r"!?\[[^\]]*\]\(<?(?P<target>[^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(?P<defined>\S+)", re.MULTILINE
)
_HEADING = re.compile(r"^#+\s+(?P<text>.+?)\s*#*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: of the page, where its text begins.
        info: what stands behind the fence, ``python run`` say.
    """

    line: int
    info: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(page):
        line = page.count("\n", 0, match.start("body")) + 1
        found.append(Block(line, match["info"].strip(), textwrap.dedent(match["body"])))
    return found


def links(page: str) -> list[str]:
    """The targets of a page's links, those in code left out."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page))
    return [match["target"] or match["defined"] for match in _LINK.finditer(prose)]


def anchors(page: str) -> set[str]:
    """The names of a page's headings in links to them."""
    texts = [match["text"] for match in _HEADING.finditer(_FENCE.sub("", page))]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def broken(link: str, page: Path) -> bool:
    """Whether a link within the repository leads nowhere; links to elsewhere are not followed."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return False
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists() or not target.resolve().is_relative_to(ROOT):
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8"))


def script(page: str) -> str:
    """The blocks of a page that are run, as one program whose lines have the page's numbers."""
    lines = [""] * (page.count("\n") + 1)
    for block in blocks(page):
        if block.info.split() == ["python", "run"]:
            body = block.text.rstrip("\n").split("\n")
            lines[block.line - 1 : block.line - 1 + len(body)] = body
    return "\n".join(lines)


def name(page: Path) -> str:
    """A page in the names of tests."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page resolves to a file of the repository and, if it has one, to a heading."""
    assert [link for link in links(page.read_text(encoding="utf-8")) if broken(link, page)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_are_python(page: Path) -> None:
    """Every Python block compiles, whether it is run or not; infos are known ones."""
    for block in blocks(page.read_text(encoding="utf-8")):
        kind = block.info.split()
        assert kind in ([], ["python"], ["python", "run"], ["sh"], ["console"], ["text"], ["toml"]), (
            f"line {block.line}: {kind}"
        )
        if kind[:1] == ["python"]:
            compile("\n" * (block.line - 1) + block.text, name(page), "exec", dont_inherit=True)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if script(page.read_text(encoding="utf-8")).strip()], ids=name
)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    """The blocks marked ``python run`` run one after the other, as one script, in a directory of their own."""
    program = tmp_path / "program" / f"{page.stem}.py"
    program.parent.mkdir()
    program.write_text(script(page.read_text(encoding="utf-8")), encoding="utf-8")
    here = tmp_path / "here"
    here.mkdir()
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(program)], cwd=here, capture_output=True, text=True, timeout=SECONDS
    )
    assert ran.returncode == 0, ran.stderr.replace(str(program), name(page))


def test_the_two_commands_stand_on_a_line_each() -> None:
    """README.md has one line that sets up and runs the demo, and one that runs tox, which .ci/run takes."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith("python3 -m venv ")]
    assert [bool(re.search(r" && \.venv/bin/manyhands demo\b[^&]*$", line)) for line in commands] == [
        True,
        False,
    ]
    assert [line.endswith(" && .venv/bin/tox") for line in commands] == [False, True]


def test_a_page_is_read_as_it_is_meant() -> None:
    """Blocks keep their lines, links in code don't count, anchors are those of headings."""
    page = "# A *page*, so\n[a](b.md#c) `[x](y)`\n```python run\n[1](2)\n```\n  ```sh\n  ls\n  ```\n"
    assert blocks(page) == [Block(4, "python run", "[1](2)\n"), Block(7, "sh", "ls\n")]
    assert links(page) == ["b.md#c"]
    assert anchors(page) == {"a-page-so"}
    assert script(page).split("\n")[3] == "[1](2)"
