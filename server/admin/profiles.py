"""Profiles as an operator gives them: a TOML file and the files beside it that it names."""

from pathlib import Path
from uuid import UUID

from server.errors import BadRequest
from server.profile import Profile, ProfileError, named_files, parse_profile
from server.store import profiles
from server.store.audit import Actor
from server.store.database import Database


def read(name: str, file: Path) -> tuple[str, dict[str, bytes], Profile]:
    """Text, named files and the parsed profile; BadRequest in one line when any of them is wrong."""
    try:
        text = file.read_text(encoding="utf-8")
        files = {named: (file.parent / named).read_bytes() for named in named_files(text, name=name)}
        return text, files, parse_profile(text, files, name=name)
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{getattr(error, 'filename', None) or file} cannot be read ({error})") from error
    except ProfileError as error:
        raise BadRequest(str(error)) from error


async def store(database: Database, actor: Actor, account_id: UUID, name: str, file: Path) -> Profile:
    """Check and store the profile `name` from `file`."""
    text, files, profile = read(name, file)
    if not name or len(name) > 100 or not name.isprintable():
        raise BadRequest("a profile's name is 1 to 100 printable characters")
    refuse_unserved(profile)
    await profiles.put(database, actor, account_id, name, text, files)
    return profile


def refuse_unserved(profile: Profile) -> None:
    """BadRequest for a mode whose enrolment this version does not serve, so that no device is sent there."""
    for security in profile.plan.securities:
        if security.mode in ("est", "est-then-server-key"):
            raise BadRequest(
                f'profile {profile.name}: mode = "{security.mode}" sends devices to EST over CoAP, which this version '
                'does not serve yet; use mode = "server-key"'
            )
