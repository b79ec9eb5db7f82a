"""A small disk that only some processes see, and processes that permissions bind even as root.

Linux only: mount namespaces, `unshare`, `nsenter` and `setpriv` of util-linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = 'mount -t tmpfs -o size="$1" small "$0" && shift && exec "$@"'


class SmallDisk:
    """A disk of its own at a folder, for the processes whose commands begin with `prefix`.

    Args:
        folder: Where those processes see it.
        size: Of the disk, in bytes.
    """

    def __init__(self, folder: Path, *, size: int) -> None:
        self._folder = folder
        own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._enter = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        unshare = ["unshare", "--mount", "--propagation", "private", *own_user]
        self.prefix = [*unshare, "sh", "-c", _SCRIPT, str(folder), str(size)]

    def seen_by(self, pid: int) -> Path:
        """The folder as that process sees it, for all others."""
        return Path(f"/proc/{pid}/root{self._folder}")

    def resize(self, pid: int, *, size: int) -> None:
        """Make more room, or less, for the processes of which `pid` is one."""
        enter = ["nsenter", "--target", str(pid), "--mount", *self._enter]
        mount = ["mount", "-o", f"remount,size={size}", str(self._folder)]
        subprocess.run([*enter, *mount], check=True)


def can_have_disks(folder: Path) -> bool:
    """Whether this system lets this user have disks of their own."""
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        return False
    words = [*SmallDisk(folder, size=2**20).prefix, "true"]
    return subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode == 0


def bound_by_permissions() -> Sequence[str]:
    """Begins the command of a process that may write only where its user may, even root.

    Nothing is needed for others than root.
    """
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--")


def used_bytes(folder: Path) -> int:
    """What all files of a folder take on a disk, as whole pages."""
    sizes = (path.lstat().st_size for path in folder.rglob("*"))
    return sum(-(-size // 4096) * 4096 for size in sizes)
