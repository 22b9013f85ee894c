"""Which instance ids a bootstrap writes to, so that the bootstrap account survives (LwM2M Core 1.2 6.1.7.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lwm2m.link_format import Inventory
from lwm2m.paths import Path
from lwm2m.plan import Plan, SecurityPlan, ServerPlan

SECURITY_OBJECT = 0
SERVER_OBJECT = 1

# Instances of a device whose placement is kept for the next device that holds the same.
_MOST_REMEMBERED = 32

_ROOT = Path()
_OBJECTS = {object: Path(object) for object in (SECURITY_OBJECT, SERVER_OBJECT)}

# A device that keeps silent at a Discover is of the family that hard-codes 0 = LwM2M server, 1 = bootstrap
# account, the layout of the OMA test cases too: nothing else was seen to keep silent.
_SILENT_ACCOUNT = frozenset({1})
# Without any such sign: clients ship their account at /0/0 or at /0/1, so neither is ever written.
_UNKNOWN_ACCOUNT = frozenset({0, 1})


@dataclass(frozen=True, slots=True)
class Placement:
    """Instance ids, in the order of the plan's lists."""

    securities: tuple[int, ...]
    servers: tuple[int, ...]


class BootstrapAccountInTheWay(Exception):
    """The profile fixes an instance id that is the device's bootstrap account."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is the device's bootstrap account")
        self.path = path


def place(plan: Plan, inventory: Inventory | None, *, silent: bool) -> Placement:
    """Choose the instance ids, given what the device told of itself; `silent`: it says nothing to a Discover.

    An instance of the same server is written again, the bootstrap account never (LwM2M Core 1.2 6.1.7.5).
    Raises BootstrapAccountInTheWay when the profile fixes an id that is known to be the account.
    """
    # Devices of one make hold the same and get the same.
    small = inventory is None or len(inventory.instances) <= _MOST_REMEMBERED
    return (_remembered if small else _placed)(plan.securities, plan.servers, plan.delete, inventory, silent)


def _placed(
    securities: tuple[SecurityPlan, ...],
    servers: tuple[ServerPlan, ...],
    delete: tuple[Path, ...],
    inventory: Inventory | None,
    silent: bool,
) -> Placement:
    account = inventory.bootstrap_account() if inventory is not None else None
    if account is not None:
        for security in securities:
            if security.id == account.instance:
                raise BootstrapAccountInTheWay(account)
    if inventory is None or not _of(inventory, SECURITY_OBJECT):
        taken = _SILENT_ACCOUNT if silent else _UNKNOWN_ACCOUNT
        return Placement(_ids(securities, {}, taken), _ids(servers, {}, ()))
    security_ids = _of(inventory, SECURITY_OBJECT)
    kept = {account.instance} if account is not None else set(security_ids)
    same_server = {} if account is None else _by_server(inventory, SECURITY_OBJECT)
    return Placement(
        _ids(securities, same_server, kept | _surviving(delete, SECURITY_OBJECT, security_ids)),
        _ids(
            servers,
            _by_server(inventory, SERVER_OBJECT),
            _surviving(delete, SERVER_OBJECT, _of(inventory, SERVER_OBJECT)),
        ),
    )


_remembered = lru_cache(maxsize=256)(_placed)


def _of(inventory: Inventory, object: int) -> tuple[int, ...]:
    return tuple(
        entry.path.instance
        for entry in inventory.instances
        if entry.path.object == object and entry.path.instance is not None
    )


def _by_server(inventory: Inventory, object: int) -> dict[int, int]:
    return {
        entry.short_server_id: entry.path.instance
        for entry in inventory.instances
        if entry.path.object == object and entry.path.instance is not None and entry.short_server_id is not None
    }


def _surviving(delete: Sequence[Path], object: int, instances: Iterable[int]) -> set[int]:
    if _ROOT in delete or _OBJECTS[object] in delete:
        return set()
    return {instance for instance in instances if Path(object, instance) not in delete}


def _ids(
    entries: Sequence[SecurityPlan] | Sequence[ServerPlan],
    same_server: dict[int, int],
    taken: Iterable[int | None],
) -> tuple[int, ...]:
    fixed = {entry.id for entry in entries if entry.id is not None}
    used = {*taken, *fixed}
    ids: list[int] = []
    for entry in entries:
        known = same_server.get(entry.short_server_id)
        if entry.id is not None:
            id = entry.id
        elif known is not None and known not in fixed and known not in ids:
            id = known
        else:
            id = next(free for free in range(len(used) + 1) if free not in used)
        used.add(id)
        ids.append(id)
    return tuple(ids)
