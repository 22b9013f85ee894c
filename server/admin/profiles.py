"""Profiles as an operator gives them: a TOML file and the files beside it that it names."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from lwm2m.plan import Learned
from server import preflight
from server.admin.files import read_text
from server.doubt import Doubt
from server.errors import BadRequest
from server.profile import Profile, ProfileError, named_files, parse_profile
from server.store import issuers, listings, profiles, trust
from server.store.audit import Actor
from server.store.conditions import Condition
from server.store.database import Database
from server.store.profiles import ProfileRow
from server.store.trust import TrustedCertificate


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


async def store(
    database: Database, actor: Actor, account_id: UUID, name: str, file: Path
) -> tuple[Profile, list[Doubt]]:
    """Check and store the profile `name` from `file`; and what is to be known of it."""
    text, files, profile = read(name, file)
    _, doubts = await _put(database, actor, account_id, profile, text, files)
    return profile, doubts


async def put(
    database: Database, actor: Actor, account_id: UUID, name: str, text: str, files: Mapping[str, bytes]
) -> tuple[ProfileRow, list[Doubt]]:
    """Check and store the profile `name` from its text and the files it names; and what is to be known of it."""
    try:
        profile = parse_profile(text, files, name=name)
    except ProfileError as error:
        raise BadRequest(str(error), field="toml") from error
    return await _put(database, actor, account_id, profile, text, files)


async def _put(
    database: Database, actor: Actor, account_id: UUID, profile: Profile, text: str, files: Mapping[str, bytes]
) -> tuple[ProfileRow, list[Doubt]]:
    if not profile.name or len(profile.name) > 100 or not profile.name.isprintable():
        raise BadRequest("a profile's name is 1 to 100 printable characters", field="name")
    named = await _named_certificate(database, account_id, profile)
    row = await profiles.put(database, actor, account_id, profile.name, text, files)
    known = {service.reference for service in await issuers.configured(database, account_id)}
    return row, [*plan_doubts(profile, datetime.now(UTC)), *_doubts(profile, named, known)]


async def _named_certificate(database: Database, account_id: UUID, profile: Profile) -> TrustedCertificate | None:
    """The trusted certificate that a profile is for; BadRequest when devices come with no such one."""
    wanted = profile.trusted_certificate
    if wanted is None:
        return None
    rows = await trust.listed(database, account_id)
    found = [row for row in rows if wanted in (row.id.hex, row.fingerprint.hex())]
    for row in found:
        if row.service == "bootstrap":
            return row
    place = f"profile {profile.name}: match.trusted_certificate is {wanted[:16]}…,"
    if found:
        raise BadRequest(
            f"{place} which is trusted for lwm2m, and devices come with certificates of service bootstrap; take the "
            "fingerprint of one from `firstlight trust list --json`",
            field="toml",
        )
    raise BadRequest(
        f"{place} which is no trusted certificate, so that no device would get this profile; trust it first "
        "(`firstlight trust add FILE --service bootstrap`), or take one from `firstlight trust list --json`",
        field="toml",
    )


def plan_doubts(profile: Profile, now: datetime) -> Iterator[Doubt]:
    """What speaks against the plan of a profile whatever the device, as each bootstrap would find it at `now` (UTC)."""
    for finding in preflight.check_plan(profile.plan, {}, Learned(), now):
        what, _, remedy = finding.sentence.rpartition("; ")
        yield Doubt(f"profile_{finding.severity}", what, remedy)


def _doubts(profile: Profile, named: TrustedCertificate | None, services: Collection[str]) -> Iterator[Doubt]:
    if named is not None and not named.active:
        yield Doubt(
            "certificate_denied",
            f"It is for devices that come with {named.name}, which is denied: they are refused",
            "activate it when they are to come",
        )
    wanted = dict.fromkeys(each.service for each in profile.plan.securities if each.uses_certificates)
    for service in wanted:
        if service not in services:
            yield Doubt(
                "no_service",
                f"No CA is configured for the service {service}: its devices get no certificate for it",
                "make that service, or mend the name",
            )


def naming_service(known: Iterable[tuple[str, str, Mapping[str, bytes]]], reference: str) -> Iterator[Doubt]:
    """What is to be known when a service is gone; `known` are all profiles by name, text and files."""
    found: list[str] = []
    for name, text, files in known:
        try:
            securities = parse_profile(text, files, name=name).plan.securities
        except ProfileError:
            continue
        if any(each.uses_certificates and each.service == reference for each in securities):
            found.append(name)
    if found:
        one = len(found) == 1
        yield Doubt(
            "no_service",
            f"The {'profile' if one else 'profiles'} {', '.join(found)} {'names' if one else 'name'} it: "
            f"devices with {'it' if one else 'them'} get no certificate for it",
            "make that service again, or take it out there",
        )


async def without_service(database: Database, account_id: UUID, reference: str) -> list[Doubt]:
    """`naming_service` of what is on record."""
    rows = await profiles.listed(database, account_id)
    return list(naming_service(((row.name, row.toml, row.files) for row in rows), reference))


async def devices_of(database: Database, account_id: UUID, name: str) -> int:
    """How many devices had the profile of this name at their last bootstrap."""
    return await listings.count(database, account_id, "device", [Condition("profile", "eq", (name,))])
