"""Files of an operator: what cannot be read is told in one line, what holds a secret is its owner's alone."""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from server.errors import BadRequest

# How a command names what it was started with.
_OWN_DESCRIPTOR = re.compile(r"/dev/(stdout|stderr)|/(?:dev|proc/self)/fd/(\d{1,9})")
_STANDARD = {"stdout": 1, "stderr": 2}


def read_bytes(file: Path) -> bytes:
    """The content of a file that an operator names; BadRequest in one line when it cannot be had."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadRequest(f"{file} cannot be read ({error.strerror}); give a file that this user may read") from error


def read_text(file: Path) -> str:
    """The text that an operator names a file of; BadRequest in one line when it is none."""
    try:
        return read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file} is no text in UTF-8 (byte {error.start}); give a text file") from error


def write(file: Path, content: bytes) -> None:
    """Write a file, pipe or device that an operator names; BadRequest in one line when that cannot be."""
    with _writing(file):
        if is_stream(file):
            _pour(file, content)
        else:
            file.write_bytes(content)


def is_stream(file: Path) -> bool:
    """Whether `file` is none that can be replaced: a pipe, a device, or what this process was started with."""
    return _own_descriptor(file) is not None or (file.exists() and not file.is_file() and not file.is_dir())


def make_folder(folder: Path) -> None:
    """Make a folder that an operator names, where it is not there; BadRequest in one line when that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest(
            f"{folder} cannot be made ({error.strerror}); give a folder that this user may write"
        ) from error


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all, or a pipe or device; BadRequest as `write`."""
    with _writing(file):
        if is_stream(file):
            _pour(file, text.encode())
        else:
            _write_private(file, text)


def _own_descriptor(file: Path) -> int | None:
    named = _OWN_DESCRIPTOR.fullmatch(str(file))
    return None if named is None else _STANDARD.get(named[1]) or int(named[2])


def _pour(file: Path, content: bytes) -> None:
    own = _own_descriptor(file)
    # Opened anew what we were started with may be refused (sudo), and a file loses what others wrote before us.
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC) if own is None else os.dup(own)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadRequest(_why_not(file, error)) from error


def _why_not(file: Path, error: OSError) -> str:
    match error:
        case IsADirectoryError():
            return f"{file} is a folder; give the name of a file in it"
        case FileNotFoundError() if not file.parent.exists():
            return f"{file} cannot be written: there is no folder {file.parent}; make it first"
        case NotADirectoryError() | FileExistsError():
            return f"{file} cannot be written: {file.parent} is no folder; give a file in one"
        case BrokenPipeError():
            return f"{file} was not taken whole by what reads it; have that read to the end"
        case _:
            return (
                f"{file} cannot be written ({error.strerror}); give a file in a folder that exists, has room and is "
                "open to this user"
            )


def _write_private(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # A new file under a name that nobody guesses: in a folder of many, another's could wait for what we write.
    scratch = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.rename(file)
        _settle(file.parent)
    except BaseException:
        # Half a secret is one too many.
        scratch.unlink(missing_ok=True)
        raise


def _settle(folder: Path) -> None:
    """Have a rename in `folder` outlive a loss of power: a root key is removed from the record after it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        # Open for writing alone.
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems know no such thing.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
