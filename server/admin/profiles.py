"""Profiles as an operator gives them: a TOML file and the files beside it that it names."""

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from server.admin.files import read_text
from server.errors import BadRequest
from server.profile import Profile, ProfileError, named_files, parse_profile
from server.store import profiles
from server.store.audit import Actor
from server.store.database import Database
from server.store.profiles import ProfileRow


def read(name: str, file: Path) -> tuple[str, dict[str, bytes], Profile]:
    """Text, named files and the parsed profile; BadRequest in one line when any of them is wrong."""
    try:
        text = read_text(file)
        files = {named: _beside(file, named) for named in named_files(text, name=name)}
        return text, files, parse_profile(text, files, name=name)
    except ProfileError as error:
        raise BadRequest(str(error)) from error


def _beside(profile: Path, named: str) -> bytes:
    try:
        return (profile.parent / named).read_bytes()
    except OSError as error:
        raise BadRequest(
            f"{profile.parent / named}, which {profile.name} names, cannot be read ({error.strerror}); "
            "files that a profile names lie beside it"
        ) from error


async def store(database: Database, actor: Actor, account_id: UUID, name: str, file: Path) -> Profile:
    """Check and store the profile `name` from `file`."""
    text, files, profile = read(name, file)
    await _put(database, actor, account_id, profile, text, files)
    return profile


async def put(
    database: Database, actor: Actor, account_id: UUID, name: str, text: str, files: Mapping[str, bytes]
) -> ProfileRow:
    """Check and store the profile `name` from its text and the files it names."""
    try:
        profile = parse_profile(text, files, name=name)
    except ProfileError as error:
        raise BadRequest(str(error), field="toml") from error
    return await _put(database, actor, account_id, profile, text, files)


async def _put(
    database: Database, actor: Actor, account_id: UUID, profile: Profile, text: str, files: Mapping[str, bytes]
) -> ProfileRow:
    if not profile.name or len(profile.name) > 100 or not profile.name.isprintable():
        raise BadRequest("a profile's name is 1 to 100 printable characters", field="name")
    return await profiles.put(database, actor, account_id, profile.name, text, files)
