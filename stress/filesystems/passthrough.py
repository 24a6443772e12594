"""A FUSE filesystem that shows a directory of this machine as a careless network would; a script.

Usage: python passthrough.py SOURCE POINT SEED CACHE FAULTS

Its client believes for CACHE seconds what it has seen of names and attributes, and that a name is free. Of the
operations on names, one in FAULTS goes wrong (0: none): half of these fail without having been done, half are done and
their reply is lost. Each comes as EIO or ESTALE. It needs pyfuse3.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import stat
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pyfuse3
import trio

RENAME = 316  # renameat2, whose flags os.rename does not know; x86-64


class Passthrough(pyfuse3.Operations):  # type: ignore[misc]
    """Inodes are open paths of the source."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, source: str, cache: float) -> None:
        super().__init__()
        self.cache = cache
        self.source = source
        self.paths = {pyfuse3.ROOT_INODE: os.open(source, os.O_PATH)}
        self.inodes: dict[tuple[int, int], int] = {}
        self.known: dict[int, int] = {}

    # -- inodes ---------------------------------------------------------------------------------------------

    def attributes(self, inode: int) -> Any:
        found, entry = os.fstat(self.paths[inode]), pyfuse3.EntryAttributes()
        for name in (
            "mode",
            "nlink",
            "uid",
            "gid",
            "rdev",
            "size",
            "atime_ns",
            "mtime_ns",
            "ctime_ns",
            "blocks",
        ):
            setattr(entry, f"st_{name}", getattr(found, f"st_{name}"))
        entry.st_ino, entry.st_blksize = inode, 4096
        entry.entry_timeout = entry.attr_timeout = self.cache
        return entry

    def entry(self, parent: int, name: bytes) -> Any:
        path = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self.paths[parent])
        found = os.fstat(path)
        inode = self.inodes.setdefault((found.st_dev, found.st_ino), found.st_ino + 1)
        if inode in self.paths:
            os.close(path)
        else:
            self.paths[inode] = path
        self.known[inode] = self.known.get(inode, 0) + 1
        return self.attributes(inode)

    def reopened(self, inode: int) -> str:
        return f"/proc/self/fd/{self.paths[inode]}"

    async def forget(self, inode_list: Any) -> None:
        for inode, count in inode_list:
            self.known[inode] = self.known.get(inode, 0) - count
            if self.known[inode] <= 0 and inode != pyfuse3.ROOT_INODE and inode in self.paths:
                path = self.paths.pop(inode)
                found = os.fstat(path)
                self.inodes.pop((found.st_dev, found.st_ino), None)
                del self.known[inode]
                os.close(path)

    # -- names ----------------------------------------------------------------------------------------------

    async def lookup(self, parent: int, name: bytes, context: Any = None) -> Any:
        try:
            return self.entry(parent, name)
        except FileNotFoundError:
            if not self.cache:
                raise
            free = pyfuse3.EntryAttributes()
            free.st_ino, free.entry_timeout = 0, self.cache
            return free

    async def create(self, parent: int, name: bytes, mode: int, flags: int, context: Any) -> Any:
        wanted = (flags & ~os.O_ACCMODE & ~os.O_NOFOLLOW) | os.O_RDWR | os.O_CREAT
        opened = os.open(name, wanted, mode, dir_fd=self.paths[parent])
        return pyfuse3.FileInfo(fh=opened), self.entry(parent, name)

    async def link(self, inode: int, parent: int, name: bytes, context: Any) -> Any:
        os.link(
            self.reopened(inode),
            name,
            src_dir_fd=self.paths[1],
            dst_dir_fd=self.paths[parent],
            follow_symlinks=True,
        )
        return self.entry(parent, name)

    async def rename(self, old: int, name: bytes, new: int, target: bytes, flags: int, context: Any) -> None:
        if _libc.syscall(RENAME, self.paths[old], name, self.paths[new], target, flags):
            raise OSError(ctypes.get_errno(), "")

    async def unlink(self, parent: int, name: bytes, context: Any) -> None:
        os.unlink(name, dir_fd=self.paths[parent])

    async def mkdir(self, parent: int, name: bytes, mode: int, context: Any) -> Any:
        os.mkdir(name, mode, dir_fd=self.paths[parent])
        return self.entry(parent, name)

    async def rmdir(self, parent: int, name: bytes, context: Any) -> None:
        os.rmdir(name, dir_fd=self.paths[parent])

    async def readdir(self, handle: int, start: int, token: Any) -> None:
        for at, name in enumerate(sorted(os.listdir(self.reopened(handle)))):
            if at < start:
                continue
            try:
                entry = self.entry(handle, os.fsencode(name))
            except FileNotFoundError:
                continue
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, at + 1):
                self.known[entry.st_ino] -= 1
                return

    # -- files ----------------------------------------------------------------------------------------------

    async def getattr(self, inode: int, context: Any = None) -> Any:
        return self.attributes(inode)

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, context: Any) -> Any:
        path = self.reopened(inode)
        if fields.update_size:
            os.truncate(path if fh is None else fh, attr.st_size)
        if fields.update_mode:
            os.chmod(path, stat.S_IMODE(attr.st_mode))
        if fields.update_mtime or fields.update_atime:
            now = os.fstat(self.paths[inode])
            atime = attr.st_atime_ns if fields.update_atime else now.st_atime_ns
            mtime = attr.st_mtime_ns if fields.update_mtime else now.st_mtime_ns
            os.utime(path, ns=(atime, mtime))
        return self.attributes(inode)

    async def open(self, inode: int, flags: int, context: Any) -> Any:
        wanted = flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
        return pyfuse3.FileInfo(fh=os.open(self.reopened(inode), wanted))

    async def opendir(self, inode: int, context: Any) -> int:
        return inode

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return os.pwrite(fh, buf, off)

    async def fsync(self, fh: int, datasync: bool) -> None:
        os.fsync(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        pass

    async def flush(self, fh: int) -> None:
        pass

    async def release(self, fh: int) -> None:
        os.close(fh)

    async def releasedir(self, fh: int) -> None:
        pass

    async def statfs(self, context: Any) -> Any:
        found, told = os.statvfs(self.source), pyfuse3.StatvfsData()
        for name in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"):
            setattr(told, f"f_{name}", getattr(found, f"f_{name}"))
        return told


NAMES = ("lookup", "create", "link", "rename", "unlink", "open")
"""What may go wrong; a read or a write that fails is the body's affair."""


def careless(kind: type[Passthrough], luck: random.Random, faults: int) -> type[Passthrough]:
    """The filesystem, one in ``faults`` of whose operations goes wrong, and whose errors have numbers."""

    def wrapped(name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(kind, name)

        async def perform(*arguments: Any) -> Any:
            goes_wrong = name in NAMES and faults and luck.randrange(faults) == 0
            number = luck.choice((errno.EIO, errno.ESTALE))
            try:
                if goes_wrong and luck.random() < 0.5:
                    raise pyfuse3.FUSEError(number)
                reply = await method(*arguments)
            except OSError as error:
                raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
            if goes_wrong and name not in {"lookup", "open", "create"}:
                raise pyfuse3.FUSEError(number)  # it was done, and nobody is told
            return reply

        return perform

    own = [name for name, found in vars(kind).items() if getattr(found, "__code__", None) and name != "forget"]
    operations = [name for name in own if hasattr(pyfuse3.Operations, name) and not name.startswith("_")]
    return type("Careless", (kind,), {name: wrapped(name) for name in operations})


_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    source, point, seed, cache, faults = sys.argv[1:6]
    operations = careless(Passthrough, random.Random(f"{seed}:{point}"), int(faults))
    options = {*pyfuse3.default_options, "fsname=passthrough", "allow_other"}
    pyfuse3.init(operations(source, float(cache)), point, options)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main()
