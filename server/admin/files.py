"""Files of an operator: what cannot be read is told in one line, what holds a secret is its owner's alone."""

import os
from pathlib import Path

from server.errors import BadRequest


def read_text(file: Path) -> str:
    """The text that an operator names a file of; BadRequest in one line when it is none."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"{file} cannot be read ({error.strerror}); give a file that this user may read") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file} is no text in UTF-8 (byte {error.start}); give a text file") from error


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
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
