"""Files of an operator: what cannot be read is told in one line, what holds a secret is its owner's alone."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from server.errors import BadRequest


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
    """Write a file that an operator names; BadRequest in one line when that cannot be."""
    with _writing(file):
        file.write_bytes(content)


def make_folder(folder: Path) -> None:
    """Make a folder that an operator names, where it is not there; BadRequest in one line when that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest(
            f"{folder} cannot be made ({error.strerror}); give a folder that this user may write"
        ) from error


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all; BadRequest as `write`."""
    with _writing(file):
        _write_private(file, text)


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadRequest(
            f"{file} cannot be written ({error.strerror}); give a file in a folder that exists, has room and is open "
            "to this user"
        ) from error


def _write_private(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.rename(file)
    except BaseException:
        # Half a secret is one too many.
        scratch.unlink(missing_ok=True)
        raise
