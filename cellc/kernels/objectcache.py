"""Object code remembered on disk, in a directory that belongs to the user alone.

What is read here is run, so the directory must be the user's own and writable by no one else. A
file is written under another name and renamed, so a reader sees all of it or nothing; it carries a
checksum, and one that does not hold (a full disk, a crash) counts as absent. The oldest files
go when the whole exceeds its limit; reading a file makes it young.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import warnings
from pathlib import Path

MAGIC = b"cellc-object-1\n"
LIMIT_BYTES = 256 << 20


class ObjectCache:
    """Bytes by key in `directory`; every failure of the file system is one warning, then misses."""

    def __init__(self, directory: Path, limit: int = LIMIT_BYTES):
        self.directory = directory
        self.limit = limit
        self._lock = threading.Lock()
        self._total: int | None = None      # bytes on disk, counted at the first write
        self._usable = self._prepare()

    def _prepare(self) -> bool:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.directory.stat()
        except OSError as fault:
            return self._give_up(str(fault))
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            return self._give_up("it belongs to another user")
        if stat.S_IMODE(status.st_mode) & 0o022 and os.name == "posix":
            return self._give_up("others may write to it")
        return True

    def _give_up(self, reason: str) -> bool:
        warnings.warn(f"compiled code is not kept in {self.directory}: {reason}", stacklevel=4)
        self._usable = False
        return False

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}.o"

    def read(self, key: str) -> bytes | None:
        """What was written under `key`, or None."""
        if not self._usable:
            return None
        path = self._path(key)
        try:
            content = path.read_bytes()
            head = len(MAGIC) + 32
            digest, data = content[len(MAGIC):head], content[head:]
            if content[:len(MAGIC)] != MAGIC or hashlib.sha256(data).digest() != digest:
                path.unlink(missing_ok=True)
                return None
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as fault:
            self._give_up(str(fault))
            return None
        return data

    def write(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`."""
        if not self._usable:
            return
        content = MAGIC + hashlib.sha256(data).digest() + data
        try:
            import tempfile  # here: a process that only reads is spared it

            handle, name = tempfile.mkstemp(dir=self.directory, suffix=".part")     # mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                os.replace(name, self._path(key))
            except BaseException:
                os.unlink(name)
                raise
            self._bound(len(content))
        except OSError as fault:
            self._give_up(str(fault))

    def _bound(self, added: int) -> None:
        """Remove the oldest files until nine tenths of the limit are left."""
        with self._lock:
            if self._total is not None and self._total + added <= self.limit:
                self._total += added
                return
            files = []
            for entry in os.scandir(self.directory):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:       # another process removed it
                    continue
                files.append((status.st_mtime_ns, status.st_size, entry.path))
            self._total = sum(size for _, size, _ in files)
            if self._total <= self.limit:
                return
            for _, size, path in sorted(files):
                if self._total <= self.limit * 9 // 10:
                    break
                Path(path).unlink(missing_ok=True)
                self._total -= size
