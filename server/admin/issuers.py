"""Certificate issuers as an operator handles them: registered, changed, opened for a look, verified.

The fields of each type are those of the Izuma API; the adapter itself has the last word on them.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509

from issuers import open_issuer
from issuers.base import Issuer
from issuers.errors import Misconfigured, Unavailable
from issuers.reach import PUBLIC, Reach
from server import reach, terms
from server.addresses import host_and_port
from server.admin import verification
from server.admin.issuer_forms import Setting, check_description, check_name, filled, form_of
from server.admin.naming import not_one
from server.admin.verification import Begun
from server.config import Config
from server.errors import BadRequest, NotFound, OutsideFailed
from server.store import accounts, issuers, readiness, trust
from server.store.audit import Actor
from server.store.database import Database
from server.store.errors import SealBroken
from server.store.issuers import Configuration, IssuerRow
from server.store.secrets import Sealer
from server.store.verifications import Verification

# A person waits for it, and goes on without.
LOOK_SECONDS = 5.0


def opened(row: IssuerRow, sealer: Sealer, reachable: Reach) -> Issuer:
    """The adapter of a recorded CA, contacting nobody; Misconfigured, SealBroken."""
    attributes = terms.without_terms(row.attributes)
    return open_issuer(row.type, row.name, attributes, row.credentials(sealer), reachable)


@dataclass(frozen=True, slots=True)
class Trial:
    """That a CA is to be asked before its settings are kept; `now` is UTC."""

    config: Config
    now: datetime


async def _try(
    database: Database,
    trial: Trial | None,
    type: str,
    name: str,
    attributes: Mapping[str, Any],
    credentials: Mapping[str, Any],
) -> None:
    """The adapter's own judgement of what was given, as a BadRequest; with a trial the CA's too, as OutsideFailed."""
    reachable = await reach_of(database, trial.config) if trial is not None else PUBLIC
    try:
        issuer = open_issuer(type, name, terms.without_terms(attributes), credentials, reachable)
    except Misconfigured as error:
        raise BadRequest(error.message, field=_place(type, error.option)) from error
    try:
        if trial is not None:
            await _try_out(issuer, trial.now)
    finally:
        await issuer.aclose()


def _place(type: str, option: str) -> str:
    """Where a request holds the option that an adapter does not take."""
    if any(option == setting.name for setting in form_of(type).credentials):
        return f"issuer_credentials.{option}"
    return f"issuer_attributes.{option}" if option else "issuer_attributes"


async def _try_out(issuer: Issuer, now: datetime) -> None:
    try:
        async with asyncio.timeout(verification.DEADLINE):
            report = await issuer.check(None, now)
    except TimeoutError as error:
        raise OutsideFailed(f"the CA was not done within {verification.DEADLINE:g} s; nothing was changed") from error
    if not report.successful:
        raise OutsideFailed(f"{report.message}; nothing was changed")


async def reach_of(database: Database, config: Config) -> Reach:
    """What adapters may connect to now."""
    return reach.reach(
        config.issuers.allow,
        accounts=len(await accounts.all_accounts(database)),
        listeners=[
            host_and_port(text, setting)
            for setting, texts in (
                ("server.http", (config.server.http,)),
                ("server.coaps_tcp", config.server.coaps_tcp),
            )
            for text in texts
        ],
    )


async def register(
    database: Database,
    sealer: Sealer,
    actor: Actor,
    account_id: UUID,
    *,
    type: str,
    name: str,
    description: str,
    attributes: Mapping[str, Any] | None,
    credentials: Mapping[str, Any] | None,
    trial: Trial | None = None,
) -> IssuerRow:
    """Register a CA without making it active; BadRequest, Conflict, LimitReached, with a `trial` OutsideFailed.

    Without one nobody is contacted: a CA may be registered before it is there.
    """
    check_name(name)
    check_description(description)
    form = form_of(type)
    kept = filled(form.attributes, attributes, "issuer_attributes")
    secret = filled(form.credentials, credentials, "issuer_credentials")
    await _try(database, trial, type, name, kept, secret)
    return await issuers.add(
        database,
        sealer,
        actor,
        account_id,
        type=type,
        name=name,
        description=description,
        attributes=kept,
        credentials=secret,
    )


async def change(
    database: Database,
    sealer: Sealer,
    actor: Actor,
    row: IssuerRow,
    *,
    name: str | None,
    description: str | None,
    attributes: Mapping[str, Any] | None,
    credentials: Mapping[str, Any] | None,
    trial: Trial | None = None,
) -> IssuerRow:
    """Change what is given; None keeps, and so does every attribute and credential that is not given.

    Raises as `register`, and NotFound.
    """
    form = form_of(row.type)
    while True:
        wanted_name = row.name if name is None else name
        wanted_description = row.description if description is None else description
        check_name(wanted_name)
        check_description(wanted_description)
        kept, secret = dict(row.attributes), None
        if attributes:
            kept = filled(form.attributes, _over(form.attributes, kept, attributes), "issuer_attributes")
        if credentials:
            known = _known_credentials(row, sealer)
            secret = filled(form.credentials, _over(form.credentials, known, credentials), "issuer_credentials")
        effective = secret if secret is not None else row.credentials(sealer)
        await _try(database, trial, row.type, wanted_name, kept, effective)
        changed = await issuers.update(
            database,
            sealer,
            actor,
            row.account_id,
            row.id,
            version=row.version,
            name=wanted_name,
            description=wanted_description,
            attributes=kept,
            credentials=secret,
        )
        if changed is not None:
            break
        # Somebody else changed it meanwhile, and that must stay too.
        row = await find(database, row.account_id, row.id)
    if trial is not None:
        await readiness.worked(database, row.id)
    return changed


def _over(settings: tuple[Setting, ...], known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`known` with `given` over it, whichever of its names a setting comes under."""
    named = {setting.name for setting in settings if not given.keys().isdisjoint((setting.name, *setting.aliases))}
    return {**{name: value for name, value in known.items() if name not in named}, **given}


def _known_credentials(row: IssuerRow, sealer: Sealer) -> Mapping[str, Any]:
    try:
        return row.credentials(sealer)
    except SealBroken:
        # Nothing of them is left: they are given again, all that are needed.
        return {}


async def find(database: Database, account_id: UUID, issuer_id: UUID) -> IssuerRow:
    """The CA with this id; NotFound, also for one of another account."""
    row = await issuers.find(database, account_id, issuer_id)
    if row is None:
        raise NotFound("there is no such certificate issuer")
    return row


async def by_word(database: Database, account_id: UUID, word: str) -> IssuerRow:
    """The one CA of this name, or whose id begins with `word`; BadRequest when it is not exactly one."""
    rows = await issuers.listed(database, account_id)
    # Every id begins with nothing: an empty word must not name the only one there is.
    named = [row for row in rows if row.name == word] or [row for row in rows if word and row.id.hex.startswith(word)]
    if len(named) != 1:
        found = [(row.id.hex, row.name) for row in named]
        raise BadRequest(not_one(word, "certificate issuers", "`firstlight issuer list`", found))
    return named[0]


async def service(database: Database, account_id: UUID, reference: str) -> Configuration:
    """The service of this name; NotFound."""
    found = await issuers.service(database, account_id, reference)
    if found is None:
        raise NotFound(f"there is no service {reference}; `firstlight service list` shows them")
    return found


async def verify(
    database: Database,
    sealer: Sealer,
    config: Config,
    actor: Actor,
    row: IssuerRow,
    *,
    issue_test: bool,
    now: datetime,
) -> Verification:
    """Ask the CA whether it works, step by step, and record the report, whatever it says."""
    begun = await begin_verification(database, actor, row, issue_test=issue_test, now=now)
    return await run_verification(database, sealer, config, actor, row, begun)


async def begin_verification(
    database: Database, actor: Actor, row: IssuerRow, *, issue_test: bool, now: datetime
) -> Begun:
    """Record that the CA is about to be verified."""
    return await verification.begin(
        database,
        actor,
        account_id=row.account_id,
        issuer_id=row.id,
        name=row.name,
        issue_test=issue_test,
        now=now,
    )


async def run_verification(
    database: Database, sealer: Sealer, config: Config, actor: Actor, row: IssuerRow, begun: Begun
) -> Verification:
    """Do what was begun; its steps come on record one by one, that its settings do not open being the first."""
    anchors = [
        x509.load_der_x509_certificate(trusted.certificate)
        for trusted in await trust.listed(database, row.account_id, service="lwm2m")
        if trusted.active
    ]
    services = await issuers.configured(database, row.account_id)
    reachable = await reach_of(database, config)
    try:
        issuer = opened(row, sealer, reachable)
    except Misconfigured as error:
        return await verification.not_opened(database, actor, begun, f"{error.message}; correct it in the settings")
    except SealBroken as error:
        return await verification.not_opened(
            database, actor, begun, f"the credentials cannot be opened ({error}); give them again"
        )
    try:
        return await verification.run(
            database,
            actor,
            begun,
            issuer=issuer,
            anchors=anchors,
            minimum_validity=timedelta(days=config.issuance.minimum_validity_days),
            services=[each.reference for each in services if each.issuer_id == row.id],
        )
    finally:
        await issuer.aclose()


async def certificates_left(database: Database, sealer: Sealer, config: Config, row: IssuerRow) -> int | None:
    """What is left of the CA's quota, by itself, at no cost; None = it does not tell. IssuerError, SealBroken."""
    issuer = opened(row, sealer, await reach_of(database, config))
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await issuer.certificates_left()
    except TimeoutError as error:
        raise Unavailable(f"the CA did not answer within {LOOK_SECONDS:g} s") from error
    finally:
        await issuer.aclose()


async def look(database: Database, sealer: Sealer, config: Config, row: IssuerRow, now: datetime) -> None:
    """Ask a CA for its own certificates, which costs nothing, and record them; raises IssuerError, SealBroken."""
    issuer = opened(row, sealer, await reach_of(database, config))
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await verification.learn_chain(database, row.id, issuer, now)
    except TimeoutError as error:
        raise Unavailable(f"the CA did not answer within {LOOK_SECONDS:g} s") from error
    finally:
        await issuer.aclose()
