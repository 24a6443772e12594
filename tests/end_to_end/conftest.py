"""Fixtures of the end-to-end tests: a directory to be in, FIFOs, small and read-only disks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to be in."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where bodies leave a line when they are called."""
    path = tmp_path / "log"
    path.mkdir()
    return path


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a filesystem in memory, with these options; skips where that is not allowed."""
    mounted: list[Path] = []

    def do(options: str) -> Path:
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("only root may mount, and only on Linux")
        path = tmp_path / f"disk {len(mounted)}"
        path.mkdir()
        ran = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            pytest.skip(f"mount is not allowed here: {ran.stderr.strip()}")
        mounted.append(path)
        return path

    yield do
    for path in mounted:
        ended = subprocess.run(["umount", str(path)], check=False, capture_output=True).returncode == 0
        if not ended:
            subprocess.run(["umount", "-l", str(path)], check=True)
