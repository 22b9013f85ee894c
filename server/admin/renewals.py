"""A person has a certificate renewed on a device that is registered now (docs/izuma.md, Renewal).

Whoever is asked, the API or a command, writes a row; the worker that holds the device takes it within a second or two,
or nobody does: then the row is taken back and the device counts as unreachable.
"""

import asyncio
from uuid import UUID

from lwm2m.certificate_enrollment import MAX_NAME, RENEW
from server.errors import BadRequest, NotFound, Unreachable
from server.store import certificate_enrollments, devices, issuers, registrations
from server.store.accounts import LWM2M
from server.store.audit import Actor
from server.store.certificate_enrollments import CertificateEnrollment, Method
from server.store.database import Database
from server.store.devices import DeviceRow
from server.store.registrations import RegistrationRow

# Workers look every second, at once after a NOTIFY.
TAKEN_WITHIN = 3.0
LOOK_EVERY = 0.05
# Beyond its time a device that was asked through its object is left to its worker, which gives up by itself and knows
# more; this long covers the repeats of the request too.
WORKER_MARGIN = 120.0
SERVER_OBJECT = 1


async def renew(
    database: Database, actor: Actor, account_id: UUID, device_id: UUID, name: str, *, seconds: float
) -> CertificateEnrollment:
    """Have the certificate `name` renewed; a worker has it in hand when this returns, its end comes later.

    The name is that of a service. Raises NotFound for an unknown device, BadRequest when no CA is configured for
    the name, Unreachable when the device is not connected or can do none of what renews, Conflict when a renewal of
    this certificate is under way. `seconds` is the time a renewal may take.
    """
    device = await devices.by_id(database, account_id, device_id)
    if not 0 < len(name) <= MAX_NAME:
        raise NotFound("there is no such certificate")
    if all(service.reference != name for service in await issuers.configured(database, account_id)):
        raise BadRequest(f"no CA is configured for the service {name}; make a service configuration of this name")
    # What is over must not stand in the way of a new one, whether or not a worker looked since.
    await certificate_enrollments.settle(database)
    # Before whether it can be reached: a device that was told to bootstrap is away because of it.
    await certificate_enrollments.require_none(database, account_id, device_id, device.endpoint, name)
    method = await _method(database, device, await registrations.find(database, account_id, device_id), name)
    enrollment_id = await certificate_enrollments.add(
        database,
        actor,
        account_id,
        device_id=device.id,
        endpoint=device.endpoint,
        certificate_name=name,
        method=method,
        seconds=seconds + (WORKER_MARGIN if method == "certificate-enrollment" else 0),
    )
    return await _taken(database, actor, account_id, enrollment_id)


async def _method(database: Database, device: DeviceRow, registered: RegistrationRow | None, name: str) -> Method:
    """How this device is asked; Unreachable when it cannot be."""
    endpoint = device.endpoint
    if registered is None:
        raise Unreachable(
            f"a renewal goes over a registration, and {endpoint} is not registered: "
            "it gets a new certificate when it bootstraps next"
        )
    if registered.worker is None:
        raise Unreachable(
            f"{endpoint} is registered but not connected; it comes back with its next update, at the latest at "
            f"{registered.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        )
    objects = {path.object for path in registered.paths}
    if RENEW.object in objects:
        return "certificate-enrollment"
    if SERVER_OBJECT not in objects or registered.version == "1.0":
        raise Unreachable(f"{endpoint} has neither object {RENEW.object} nor a Bootstrap-Request Trigger (/1/x/9)")
    if name == LWM2M or await certificate_enrollments.came_by_bootstrap(database, device.account_id, endpoint, name):
        return "bootstrap"
    raise Unreachable(f"{endpoint} has no object {RENEW.object}, and a bootstrap brings it no certificate {name}")


async def _taken(database: Database, actor: Actor, account_id: UUID, enrollment_id: UUID) -> CertificateEnrollment:
    """Wait until a worker has it in hand; Unreachable, and nothing is left of it, when none takes it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TAKEN_WITHIN
    while True:
        wish = await certificate_enrollments.find(database, account_id, enrollment_id)
        if wish.worker is not None or wish.result is not None:
            return wish
        if loop.time() >= deadline and await certificate_enrollments.withdraw(database, actor, wish):
            raise Unreachable(f"{wish.endpoint} is not connected: the worker that had it does not answer for it")
        await asyncio.sleep(LOOK_EVERY)
