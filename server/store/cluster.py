"""Where the embedded PostgreSQL's files live and whose they are (design 7, "Embedded PostgreSQL").

As an ordinary user: `postgres/` in the data folder. As root: `/var/lib/firstlight/<id>/`, owned by an
unprivileged user because PostgreSQL refuses root; the data folder keeps a pointer. No parent folder's mode is
changed.
"""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from server.store.errors import StoreRefused

SYSTEM_FOLDER = Path("/var/lib/firstlight")
SERVICE_USER = "firstlight"
FALLBACK_USER = "nobody"
OWN_FOLDER = "postgres"
POINTER = "postgres.location"
SCRATCH = "data.new"
# In a cluster that lives elsewhere: whose it is.
BELONGS_TO = "data-folder"
SOCKET_NAME = ".s.PGSQL.5432"
# sockaddr_un.sun_path has 104 bytes on the narrowest system we run on, the closing NUL included.
SOCKET_PATH_LIMIT = 103
LOG_TAIL = 8192


@dataclass(frozen=True, slots=True)
class Owner:
    """The user PostgreSQL runs as, when that is not ourselves."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one cluster and what is in it; `owner` None = ourselves."""

    folder: Path
    owner: Owner | None

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What PostgreSQL says."""
        return self.folder / "postgres.log"

    @property
    def password_file(self) -> Path:
        """The generated password of its only role, readable by its owner alone."""
        return self.folder / "password"

    def password(self) -> str:
        """The password."""
        return _read(self.password_file)

    def major(self) -> int | None:
        """The release that made the cluster; None when there is none yet."""
        try:
            return int(_read(self.data / "PG_VERSION"))
        except FileNotFoundError:
            return None

    def postmaster(self) -> int | None:
        """The process that `postmaster.pid` names, if it exists and really is this cluster's server.

        After a restart of the machine or of a container the number may belong to anyone.
        """
        try:
            pid = int(_read(self.data / "postmaster.pid").split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        return pid if _serves(pid, self.data) else None

    def forget_postmaster(self) -> None:
        """Remove lock files that name nobody of ours; PostgreSQL's shared memory still guards the data."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.socket_folder() / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)

    def log_size(self) -> int:
        """Bytes in the log, to be given to `said_since`."""
        try:
            return self.log.lstat().st_size
        except FileNotFoundError:
            return 0

    def said_since(self, size: int) -> str:
        """The end of what was written to the log since it had `size` bytes."""
        try:
            text = _read_bytes(self.log)
        except FileNotFoundError:
            return ""
        # It was put aside in between when it is shorter now.
        return text[size if size <= len(text) else 0 :][-LOG_TAIL:].decode(errors="replace")

    def socket_folder(self) -> Path:
        """Where the socket is: here, or when this path is too long, in a private folder kept on record."""
        if _fits(self.folder):
            return self.folder
        record = self.folder / "socket.location"
        with contextlib.suppress(FileNotFoundError):
            recorded = Path(_read(record))
            if _is_private(recorded):
                return recorded
        folder = _short_folder()
        record.write_text(str(folder), encoding="utf-8")
        return folder

    def remove(self) -> None:
        """Delete the cluster with all it holds."""
        socket_folder = self.socket_folder()
        if socket_folder != self.folder:
            shutil.rmtree(socket_folder, ignore_errors=True)
        shutil.rmtree(self.folder)


class Lock:
    """Held by the one process that supervises a cluster; the kernel lets go when that process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, home: Home, holder: str) -> "Lock | None":
        """The lock, with `holder` written into it for others to read; None while another process has it."""
        descriptor = os.open(home.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        return cls(descriptor)

    @staticmethod
    def holder(home: Home) -> str:
        """What the holder wrote; "" when it has not yet."""
        try:
            return _read(home.folder / "lock")
        except FileNotFoundError:
            return ""

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)


def is_there(data_dir: Path) -> bool:
    """Whether a cluster belongs to `data_dir`, or something else stands in its way, which `settle` tells."""
    try:
        nearest = next(each for each in (data_dir, *data_dir.parents) if each.exists())
        blocked = not nearest.is_dir()
        return blocked or (data_dir / POINTER).exists() or (data_dir / OWN_FOLDER / "data" / "PG_VERSION").exists()
    except OSError:
        return True


def settle(data_dir: Path, system_folder: Path = SYSTEM_FOLDER) -> Home:
    """The home of the cluster that belongs to `data_dir`, made at the first call.

    Raises StoreRefused when the folder was made by another kind of user or cannot be made.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return _settle_as_root(data_dir, system_folder) if os.geteuid() == 0 else _settle_as_user(data_dir)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreRefused(f"{data_dir} is no folder; give a --data-dir that is one, or --database-url") from error
    except OSError as error:
        raise StoreRefused(
            f"{error.filename or data_dir} cannot be used for the embedded PostgreSQL ({error.strerror}); "
            "run this as the user whose server it is, give a --data-dir that this one may write, or --database-url"
        ) from error


def listener(path: str) -> int | None:
    """The process that listens at the socket `path`: 0 when it cannot be named, None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(path)
        except OSError:
            return None
        if sys.platform != "linux":
            return 0
        # struct ucred of unix(7): who called listen(), by the number it has among our processes, else 0.
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def scratch(folder: Path) -> Path:
    """Where a start makes its cluster, beside the place that it gets when it is whole.

    Each start has another: the `initdb` of one that was killed removes its own as it ends, whatever is there by then.
    """
    return folder / f"{SCRATCH}.{secrets.token_hex(4)}"


def clear(folder: Path) -> None:
    """Remove what interrupted starts left behind, of which somebody else may be removing a part."""
    for left in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)


def _settle_as_user(data_dir: Path) -> Home:
    if (data_dir / POINTER).exists():
        raise StoreRefused(
            f"{data_dir} was made by root (its PostgreSQL lives in {_read(data_dir / POINTER)}); "
            "run as root, or give another --data-dir"
        )
    folder = data_dir.resolve() / OWN_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise StoreRefused(f"{folder} belongs to {_user_name(folder)}; run as that user, or give another --data-dir")
    _make_password(folder, None)
    return Home(folder, None)


def _settle_as_root(data_dir: Path, system_folder: Path) -> Home:
    if (data_dir / OWN_FOLDER).exists():
        raise StoreRefused(
            f"{data_dir / OWN_FOLDER} was made by {_user_name(data_dir / OWN_FOLDER)}; "
            "run as that user, or give another --data-dir"
        )
    pointer = data_dir / POINTER
    if not pointer.exists():
        _make_home(data_dir, pointer, system_folder)
    folder = Path(_read(pointer))
    if not folder.is_absolute() or not folder.is_dir():
        raise StoreRefused(
            f"{pointer} points to {folder}, which is gone; "
            f"restore it, or remove {pointer} to begin with an empty record"
        )
    found = folder.stat()
    if found.st_uid == 0:
        raise StoreRefused(f"{folder} belongs to root, as whom PostgreSQL does not run; chown it to {SERVICE_USER}")
    # Its number, not its name: a container made anew may know the same volume's owner by no name at all.
    owner = Owner(found.st_uid, found.st_gid)
    for parent in folder.parents:
        if not _may_pass(parent, owner):
            raise StoreRefused(
                f"{parent} is closed to {_user_name(folder)}, as whom PostgreSQL runs; "
                f"open it with `chmod o+x {parent}`"
            )
    return Home(folder, owner)


def _make_home(data_dir: Path, pointer: Path, system_folder: Path) -> None:
    owner = _service_user()
    if not system_folder.exists():
        system_folder.mkdir(parents=True)
        # Whatever the umask: others pass through to their own; the leaf below is closed.
        system_folder.chmod(0o755)
    folder = system_folder / secrets.token_hex(4)
    folder.mkdir(mode=0o700)
    # For whoever finds the folder and wants to know what it is.
    (folder / BELONGS_TO).write_text(f"{data_dir.resolve()}\n", encoding="utf-8")
    _make_password(folder, owner)
    os.chown(folder, owner.uid, owner.gid)
    scratch = pointer.with_name(f".{pointer.name}.{folder.name}")
    scratch.write_text(f"{folder}\n", encoding="utf-8")
    try:
        # Unlike rename, link fails when another starter was first.
        os.link(scratch, pointer)
    except FileExistsError:
        shutil.rmtree(folder)
    finally:
        scratch.unlink()


def _make_password(folder: Path, owner: Owner | None) -> None:
    file = folder / "password"
    if file.exists():
        return
    scratch = folder / f".password.{secrets.token_hex(4)}"
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(secrets.token_urlsafe(32) + "\n")
        stream.flush()
        os.fsync(descriptor)
        if owner is not None:
            os.fchown(descriptor, owner.uid, owner.gid)
    try:
        os.link(scratch, file)
    except FileExistsError:
        pass
    finally:
        scratch.unlink()


def _service_user() -> Owner:
    """The system user `firstlight`, made when it is absent and can be; else `nobody`."""
    # Another starter may hold the lock of the user database for a moment.
    for attempt in range(20):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(SERVICE_USER)
            if entry.pw_uid == 0:
                raise StoreRefused(f"the system user {SERVICE_USER} is root, as whom PostgreSQL does not run")
            return Owner(entry.pw_uid, entry.pw_gid)
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd is None:
            break
        time.sleep(0.05 if attempt else 0)
        subprocess.run(
            [
                *(useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"),
                *("--shell", "/usr/sbin/nologin", SERVICE_USER),
            ],
            capture_output=True,
            check=False,
        )
    try:
        entry = pwd.getpwnam(FALLBACK_USER)
    except KeyError:
        raise StoreRefused(
            f"PostgreSQL does not run as root, and neither user {SERVICE_USER} nor {FALLBACK_USER} exists; "
            f"make the system user {SERVICE_USER}, or run as an ordinary user"
        ) from None
    return Owner(entry.pw_uid, entry.pw_gid)


def _serves(pid: int, data: Path) -> bool:
    if pid <= 1:
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        if Path("/proc/self/cmdline").exists():
            return False
        return _exists(pid)
    # Empty for one that is dead and not yet reaped.
    return os.fsencode(data) in command.split(b"\0")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_LIMIT


def _may_pass(folder: Path, owner: Owner) -> bool:
    found = folder.stat()
    if found.st_uid == owner.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == owner.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _is_private(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700


def _short_folder() -> Path:
    for place in (f"/run/user/{os.geteuid()}", tempfile.gettempdir(), "/tmp"):
        with contextlib.suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="firstlight-", dir=place))
            if _fits(folder):
                return folder
            folder.rmdir()
    raise StoreRefused("no folder with a short path was found for PostgreSQL's socket; give a shorter --data-dir")


def _user_name(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def _read(file: Path) -> str:
    return _read_bytes(file).decode().strip()


def _read_bytes(file: Path) -> bytes:
    # Below a folder that another user owns, a link could lead anywhere.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()
