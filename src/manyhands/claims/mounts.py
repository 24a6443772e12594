"""Which filesystem a directory is on, and what is known of it. Pure: the kernel's table is told.

What is said here of filesystems is what docs/filesystems.md says.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final, Literal, NamedTuple

Verdict = Literal["ok", "warning", "problem"]

NFS_BELIEVES: Final = 60.0
"""Seconds for which an NFS client may believe old attributes, unless ``acregmax`` says otherwise."""


class Mount(NamedTuple):
    """A line of ``/proc/self/mountinfo``: where it is mounted, of what type, from where, and how."""

    point: str
    type: str
    source: str
    options: frozenset[str]

    @property
    def is_nfs(self) -> bool:
        """Whether its client believes for a while what it saw."""
        return self.type in ("nfs", "nfs4")

    @property
    def is_local(self) -> bool:
        """Whether it is this machine's own, and a rename that is not to replace never does."""
        return self.type in _FINE

    @property
    def believes(self) -> float:
        """Seconds for which old attributes may be shown, as far as that is known."""
        if not self.is_nfs:
            return 0.0
        if "noac" in self.options:
            return 0.0
        for option in self.options:
            name, _, value = option.partition("=")
            if name in ("acregmax", "actimeo") and value.isdecimal():
                return float(value)
        return NFS_BELIEVES


def mount_of(path: str, mountinfo: str) -> Mount | None:
    """Where the absolute ``path``, without links in it, is mounted; None if the table does not tell."""
    found = None
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, more = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(more) < 3:
            continue
        point = _unescaped(fields[4])
        inside = PurePath(path).is_relative_to(point)
        if inside and (found is None or len(point) >= len(found.point)):  # a later one lies over earlier ones
            options = frozenset(fields[5].split(",")) | frozenset(more[2].split(","))
            found = Mount(point, more[0], _unescaped(more[1]), options)
    return found


def known_of(mount: Mount) -> tuple[Verdict, str, str]:
    """What is known of a filesystem of that type: a verdict, why, and what to do."""
    name = mount.type
    if name in _FINE:
        return "ok", f"{name}: everything holds", ""
    if mount.is_nfs:
        if weak := sorted({"soft", "nocto"} & mount.options):
            return (
                "warning",
                f"{name}, mounted {' and '.join(weak)}: replies may be lost, or old names believed",
                f"mount it without {' and '.join(weak)}",
            )
        return "ok", f"{name}: outputs of other machines are seen up to a minute late", ""
    if name in _NETWORKED:
        return "ok", f"{name}: {_NETWORKED[name]}", ""
    if name in _WARNED:
        why, cure = _WARNED[name]
        return "warning", f"{name}: {why}", cure
    if any(store in f"{name} {mount.source}".lower() for store in _STORES):
        return (
            "problem",
            f"{name} from {mount.source}: an object store, where no creation is exclusive",
            "put the outputs, or at least temp=, on another filesystem",
        )
    return (
        "warning",
        f"{name}: claims were not tried there",
        "try it first: python -m stress, or manyhands stress --directory",
    )


_FINE: Final = {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs", "apfs"}
_NETWORKED: Final = {
    "fuse.glusterfs": "shows what is a second old",
    "fuse.mfs": "times in whole seconds, so leases of some seconds or more",
    "fuse.moosefs": "times in whole seconds, so leases of some seconds or more",
}
_WARNED: Final = {
    "fuse.sshfs": (
        "shows directories that are 20 s old; times in whole seconds",
        "mount it with dir_cache=no to see outputs of others at once",
    ),
    "cifs": ("not measured", "try it first with manyhands stress --directory"),
    "smb3": ("not measured", "try it first with manyhands stress --directory"),
    "vfat": ("has no hard links", "use it from one machine only"),
    "msdos": ("has no hard links", "use it from one machine only"),
    "exfat": ("has no hard links", "use it from one machine only"),
    "lustre": ("not measured", "try it first with manyhands stress --directory"),
}
_STORES: Final = ("s3fs", "rclone", "gcsfuse", "goofys", "mountpoint-s3", "blobfuse")


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
