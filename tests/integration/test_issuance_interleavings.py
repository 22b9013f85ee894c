"""Who gives up a certificate, in every order: a worker is lost, others settle and are lost too, the device is back.

Whatever the order: a device that came back has one certificate, and every other that was made for it is revoked; one
that did not come back may be at work with what it has, and keeps it. With `on_unknown = hold` a CA signs no more for a
device while nobody knows what became of a request.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from issuers.base import Recovery
from server import issuance
from server.errors import TemporarilyUnavailable
from server.issuance import Wish
from server.settlement import Settlement
from server.store.database import Database, connect
from server.store.writer import MarkDelivered
from tests.integration.issuers import LookupCa, Register, ScriptedCa, TokenCa, wish
from tests.integration.processes import KEY_HOLD, CasInTurns, ForgetfulCa, Process, Processes, SilentCa
from tests.integration.turns import Course, Party, take_turns

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What one process reads and then judges by what it knows of the row by then.
JUDGED = frozenset({"issuance_undelivered", "issuance_adopt_expired"})
# What only the device's own new row is in, which nobody but its worker touches.
OWN = frozenset({"CA issue", "RecordIssued", "MarkDelivered"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(postgres_url: str, template: str) -> AsyncIterator[Processes]:
    name = "firstlight_test_interleavings"
    url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    maintenance = await connect(postgres_url)
    await maintenance.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    database = await Database.open(url, migrate=False)
    opened = Processes(database, url)
    # A thousand courses have much to say.
    with pytest.MonkeyPatch.context() as patch, capture_logs():
        patch.setattr(issuance, "CLOSE_PATIENCE", 0.0)
        # What is revoked in the background at once is revoked a minute later too: here nobody but the last does it.
        patch.setattr(Settlement, "_start", lambda _, work: work.close())
        yield opened
    await opened.close()
    await database.close()
    await maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await maintenance.close()


# -- what they do --

Visit = Callable[[Process, Sequence[Wish]], Awaitable[None]]


async def served(at: Process, wishes: Sequence[Wish]) -> None:
    """A session that is finished."""
    made = [await at.issuance.server_made(each) for each in wishes]
    for each, given in zip(made, wishes, strict=True):
        at.issuance.delivered(each.issuance_id, given)
    for each in made:
        await at.writer.write(MarkDelivered(each.issuance_id))


async def unanswered(at: Process, wishes: Sequence[Wish], *, doubtful: bool = True) -> None:
    """A session whose Finish has no answer, and the end of the time for which its keys are held."""
    made = [await at.issuance.server_made(each) for each in wishes]
    for each, given in zip(made, wishes, strict=True):
        at.issuance.returned(each.issuance_id, given, doubtful=doubtful)
    at.clock.let_pass(KEY_HOLD + 1)
    await at.issuance.expire_keys()


async def left(at: Process, wishes: Sequence[Wish]) -> None:
    """A session whose device did not wait for it."""
    await unanswered(at, wishes, doubtful=False)


async def settles(at: Process) -> None:
    """One look at what others left over."""
    await at.issuance.settlement.settle_expired()


# -- one scenario --


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The `lost` worker is gone after so many effects of its `visit`; the device is back once it had `alone` of them.

    Then `settlers` settle one after the other, each but the last gone after so many effects (0 = none is); "back" is
    the worker to which the device came back. `stalled`: the lost one is only thought to be gone. `hold`: who comes back
    may be sent away.
    """

    ca: Callable[[], ScriptedCa] = TokenCa
    visit: Visit = served
    lost: int
    alone: int = 2
    settlers: tuple[tuple[str, int], ...]
    stalled: bool = False
    units: tuple[str | None, ...] = (None,)
    comes_back: bool = True
    hold: bool = False
    switches: int = 2

    def __str__(self) -> str:
        told = [self.ca.__name__, self.visit.__name__, *([f"{len(self.units)}-entries"] if len(self.units) > 1 else [])]
        told += ["hold"] if self.hold else []
        told.append(f"{'stalled' if self.stalled else 'lost'}-after-{self.alone if self.stalled else self.lost}")
        told += [f"{owner}-settles" + (f"-until-{stops}" if stops else "") for owner, stops in self.settlers]
        return "-".join([*told, "is-back" if self.comes_back else "stays-away"])


async def run(
    processes: Processes, scenario: Scenario, register: Register, course: Course, endpoint: str
) -> Collection[str]:
    """One course; what is under way at its end is put aside. Who was not sent away, by name of the party."""
    owners = dict.fromkeys(("back", *(owner for owner, _ in scenario.settlers)))
    at = {owner: await processes.started(owner, register) for owner in owners}
    # Who asks a forgetful CA again and again would wait for it in real time.
    at["lost"] = await processes.started("lost", register, 0.0 if scenario.ca is ForgetfulCa else KEY_HOLD)

    def wishes() -> list[Wish]:
        session = uuid4()
        return [replace(wish(endpoint, unit=unit), session_id=session) for unit in scenario.units]

    async def over(party: Party) -> None:
        owner = party.name.split()[0]
        if owner in at and owner != "back":
            await processes.leases("-infinity", endpoint, owner)

    lost = Party("lost", partial(scenario.visit, at["lost"], wishes()), stops=scenario.lost)
    for _ in range(min(scenario.alone, scenario.lost)):
        await lost.at_rest()
        course.happened.append(lost.go())
    parties = [lost]
    if scenario.stalled:
        await lost.at_rest()
        await over(lost)
    for owner, stops in scenario.settlers:
        after = None if scenario.stalled and len(parties) == 1 else parties[-1]
        # Only of the device's own worker it matters when it hears.
        heard = JUDGED if owner == "back" else ()
        parties.append(
            Party(f"{owner} settles", partial(settles, at[owner]), after=after, stops=stops or None, heard=heard)
        )
    if scenario.comes_back:
        heard = JUDGED if "back" in dict(scenario.settlers) else ()
        parties.append(Party("device", partial(served, at["back"], wishes()), free=OWN, heard=heard))
    await take_turns(course, parties, over, switches=scenario.switches)
    taken = {party.name for party in parties}
    for party in parties:
        try:
            await party.end()
        except TemporarilyUnavailable:
            # Its row was in other hands by then.
            assert party is lost or scenario.hold
            taken.discard(party.name)
    for process in at.values():
        await process.issuance.close()
    await processes.leases("infinity", endpoint)
    return taken


async def comes_to_rest(processes: Processes, register: Register) -> None:
    """Much later: nobody but one is left, and it settles what there was."""
    last = await processes.started("last", register)
    await processes.leases("-infinity", "%")
    under_way = True
    while under_way:
        last.clock.let_pass(3600)
        await last.issuance.settlement.settle()
        async with processes.database.acquire() as connection:
            under_way = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM issuance WHERE NOT settled) "
                "OR EXISTS (SELECT FROM certificate WHERE revocation_due < 'infinity')"
            )


async def faults(
    processes: Processes, name: str, ca: ScriptedCa, back: Collection[str], at_work: Collection[str]
) -> Mapping[str, list[str]]:
    """What record and journal say against the rule of this module, by device: `back` or maybe `at_work`."""
    async with processes.database.acquire() as connection:
        rows = await connection.fetch(
            "SELECT i.id, i.endpoint, i.state, i.subject, c.issuance_id IS NOT NULL AS recorded, c.revoked_at "
            "FROM issuance i LEFT JOIN certificate c ON c.issuance_id = i.id "
            "WHERE i.endpoint LIKE $1 ORDER BY i.opened_at",
            f"{name}-%",
        )
    found: dict[str, list[str]] = defaultdict(list)
    wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        signed = ca.certificates.get(row["id"])
        if row["state"] == "unknown" and ca.recovery is Recovery.NONE:
            # Nobody can ask for it: it is for people.
            continue
        if (signed is not None) != row["recorded"]:
            found[row["endpoint"]].append("a certificate is not on record")
        elif signed is not None and (signed.leaf.serial_number in ca.revoked) != (row["revoked_at"] is not None):
            found[row["endpoint"]].append("the record and the CA differ about what is revoked")
        if row["state"] not in ("delivered", "abandoned", "failed"):
            found[row["endpoint"]].append(f"{row['state']} for good")
        if row["recorded"]:
            wanted[row["endpoint"], row["subject"]].append("revoked" if row["revoked_at"] else row["state"])
    for (endpoint, subject), states in wanted.items():
        # Of the lost worker's, which may be on record as delivered before the device came back.
        *_, last = kept = [state for state in states if state != "revoked"] or [""]
        if endpoint in back and (last != "delivered" or set(kept) != {"delivered"}):
            found[endpoint].append(f"its certificates for {subject} ended as {states} and it is back")
        if endpoint in at_work and "revoked" in states:
            found[endpoint].append(f"its certificates for {subject} ended as {states} and it may be at work")
    assert ca.signed_once
    return found


async def signed_beside_an_unknown(processes: Processes, name: str, ca: ScriptedCa) -> Mapping[str, list[str]]:
    """Devices for which something was signed while nobody knew what would become, or became, of another request."""
    async with processes.database.acquire() as connection:
        rows = await connection.fetch(
            "SELECT other.endpoint, other.id FROM issuance unknown "
            "JOIN issuance other ON other.account_id = unknown.account_id AND other.endpoint = unknown.endpoint "
            "LEFT JOIN certificate c ON c.issuance_id = other.id "
            "WHERE unknown.endpoint LIKE $1 AND unknown.state = 'unknown' AND other.id <> unknown.id "
            # Not one whose answer was here before the other was asked for.
            "AND coalesce(c.issued_at, 'infinity') > unknown.opened_at",
            f"{name}-%",
        )
    signed = [row["endpoint"] for row in rows if row["id"] in ca.certificates]
    return {endpoint: ["signed although nobody knows what became of another"] for endpoint in signed}


# Who settles: the worker to which the device is back; another; another that is lost, and then one or the other.
BACK, OTHER = (("back", 0),), (("other", 0),)
LOST = {stops: [(("other", stops), ("back", 0)), (("other", stops), ("third", 0))] for stops in (1, 2, 3)}
FEW = [BACK, OTHER, *LOST[1]]
SCENARIOS = [
    # The CA was never asked.
    *[Scenario(ca=LookupCa, lost=1, settlers=settlers) for settlers in FEW],
    # It signed, and nobody heard of it.
    *[Scenario(lost=2, settlers=settlers) for settlers in (*FEW, *LOST[2], *LOST[3])],
    # The certificate is on record: the device may have it; before and after its worker looked at what was before.
    *[Scenario(lost=lost, settlers=settlers) for settlers in FEW for lost in (3, 4)],
    # The device has it, and that is being written.
    Scenario(lost=5, settlers=OTHER),
    # Whether it has it nobody knows, and the worker gives it up.
    *[Scenario(lost=5, visit=unanswered, settlers=settlers) for settlers in FEW],
    # It went on to another worker before the CA had answered the first.
    *[Scenario(lost=lost, alone=1, visit=left, settlers=OTHER) for lost in (3, 4, 5)],
    # It is at work.
    *[Scenario(lost=lost, settlers=each, comes_back=False) for each in (OTHER, *LOST[1]) for lost in (3, 4, 5)],
    Scenario(lost=5, visit=unanswered, settlers=OTHER, comes_back=False),
    # Two entries of its profile want two names.
    *[Scenario(lost=7, alone=6, settlers=settlers, units=(None, "fleet"), switches=1) for settlers in FEW],
    *[Scenario(lost=lost, alone=2, settlers=OTHER, units=(None, "fleet"), switches=1) for lost in (3, 8, 9, 10)],
    # The answer of the CA was lost, and another certificate made.
    *[Scenario(ca=ForgetfulCa, lost=lost, settlers=OTHER) for lost in (4, 5, 7, 8)],
    *[
        Scenario(ca=ForgetfulCa, lost=7, alone=6, settlers=each, switches=1)
        for each in (BACK, *LOST[1], *LOST[2], *LOST[3])
    ],
    *[Scenario(ca=SilentCa, lost=lost, settlers=OTHER) for lost in (3, 5, 7, 8)],
    # And no other may be made while nobody knows what became of the first.
    *[Scenario(ca=ScriptedCa, hold=True, lost=lost, settlers=settlers) for settlers in FEW for lost in (1, 2)],
    *[Scenario(ca=ScriptedCa, hold=True, lost=9, alone=alone, settlers=OTHER, stalled=True) for alone in (1, 2)],
    # Two workers serve it at the same moment.
    *[Scenario(ca=ScriptedCa, hold=True, lost=lost, alone=0, settlers=OTHER) for lost in (1, 2, 3, 9)],
    # It was slow, and others thought that it was gone.
    *[
        Scenario(lost=9, alone=alone, visit=visit, settlers=settlers, stalled=True, comes_back=comes_back, switches=1)
        for visit, comes_back in ((served, True), (unanswered, True), (served, False))
        for alone, settlers in ((2, OTHER), (3, BACK), (3, OTHER))
    ],
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_no_order_of_events_loses_a_certificate(processes: Processes, scenario: Scenario) -> None:
    ca = scenario.ca()
    register = CasInTurns(ca)
    register.on_unknown = "hold" if scenario.hold else "reissue"
    courses: dict[str, Course] = {}
    back: set[str] = set()
    at_work: set[str] = set()
    course: Course | None = Course()
    while course is not None:
        endpoint = f"{register.name}-{len(courses)}"
        courses[endpoint] = course
        taken = await run(processes, scenario, register, course, endpoint)
        if not scenario.alone:
            # Served by two at the same moment: with which of them it goes on nobody knows.
            pass
        elif "device" in taken:
            back.add(endpoint)
        elif "lost" in taken and not scenario.comes_back:
            at_work.add(endpoint)
        course = course.next()
    await comes_to_rest(processes, register)
    found = await faults(processes, register.name, ca, back, at_work)
    if scenario.hold:
        found = {**found, **await signed_beside_an_unknown(processes, register.name, ca)}
    assert not found, "\n".join(
        [f"{len(found)} of {len(courses)} courses"]
        + [f"{'; '.join(found[endpoint])}: {courses[endpoint]}" for endpoint in list(found)[:3]]
    )
