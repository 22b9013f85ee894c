"""How an EST request for a certificate ended: its step in the session around it, or a row of its own; one sentence.

A device may ask before, during and after a bootstrap, or long after the last one (RFC 9148; design 7).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

from issuers.errors import IssuerError
from lwm2m.est import MediaType
from lwm2m.steps import Done, Failed, FailureCause, OperationKind, StepRecord, rows
from server import est_unused, logs, policy, sentences
from server.errors import (
    ComeAgain,
    Conflict,
    CsrRefused,
    DailyLimit,
    KeyTaken,
    NoProfile,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    ServiceError,
    TemporarilyUnavailable,
)
from server.issuer_failures import failure
from server.metrics import Metrics
from server.requester import Requester
from server.seen import Seen
from server.store.accounts import LWM2M
from server.store.errors import StoreUnavailable
from server.store.writer import AppendStep, RecordEnrollment, TouchDevice, Writer
from server.transport.association import Association
from server.visit import Visit

log = logs.get("est")


class Conversation(Protocol):
    """What is looked at of the device's conversation."""

    visit: Visit
    association: Association
    gone: str | None


@dataclass(slots=True)
class Ending:
    """One request from its arrival to its end, filled in on the way; `began` in seconds of the steady clock."""

    path: str
    service: str
    began: float
    started_at: datetime
    requester: Requester | None = None
    issuance_id: UUID | None = None
    delivered: bool = False
    code: int | None = None
    size: int = 0
    format: str | None = None
    note: str = ""
    cause: FailureCause | None = None
    # The CA at fault, as in `RecordSession`.
    failed_ca: str | None = None
    later: bool = False
    noted: Awaitable[None] | None = None

    def answered(self, code: int, payload: bytes, format: int | None) -> None:
        """The certificate leaves; whether it arrives is not known yet."""
        self.code, self.size = code, len(payload)
        self.format = "izuma-chain" if format is None else MediaType(format).name.lower()

    def refused(self, error: Exception, code: int) -> None:
        """The device was answered with an error."""
        self.code, self.note = code, str(error)
        self.cause = _cause(error)
        self.later = isinstance(error, ComeAgain | Conflict) and not isinstance(error, DailyLimit)


class Enrollments:
    """Writes down the EST requests of one worker; nothing here fails one."""

    def __init__(
        self,
        *,
        writer: Writer,
        seen: Seen,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._writer = writer
        self._seen = seen
        self._clock = clock
        self._now = now
        self._metrics = metrics

    def begun(self) -> None:
        """A request for a certificate has come."""
        self._metrics.enrollments.inc("started")

    def asked(self, requester: Requester, ending: Ending, services: Container[str]) -> None:
        """A device asks, whatever becomes of it; `services` are the account's."""
        ending.requester = requester
        note = est_unused.after_request(requester, ending.service, services, now=ending.started_at)
        if note is not None:
            ending.noted = self._writer.write(note)

    async def ended(self, conversation: Conversation, ending: Ending) -> None:
        """Put a request on record, count it, and say it in the log."""
        seconds = self._clock() - ending.began
        verdict = _verdict(conversation, ending)
        self._count(ending, verdict, seconds)
        requester, association = ending.requester, conversation.association
        if requester is None:
            cause = verdict.cause if isinstance(verdict, Failed) else FailureCause.INTERNAL
            identity = f"{association.peer.label}: {ending.note}"
            self._seen.note(association.address_text, cause.value, association.peer.kind, identity)
            return
        step = StepRecord(
            operation=OperationKind.EST,
            path=ending.path,
            code=ending.code,
            bytes=ending.size,
            format=ending.format,
            note=ending.note,
            at=None,
            seconds=seconds,
        )
        session = conversation.visit.session
        writes: list[Awaitable[object]] = [ending.noted] if ending.noted is not None else []
        if session is not None and session.open:
            if session.takes_step():
                session.steps.append((ending.began, step))
        elif session is not None and not isinstance(verdict, Failed) and session.takes_step():
            said = step._replace(at=ending.began - session.started)
            writes.append(
                self._writer.write(
                    AppendStep(
                        session_id=session.id,
                        started_at=session.started_at,
                        step=json.dumps(said.as_row()),
                        issuance_id=ending.issuance_id,
                    )
                )
            )
        if not ending.later and (session is None or isinstance(verdict, Failed)):
            writes += self._own_row(requester, association, ending, verdict, step, alone=session is None)
        for result in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(result, StoreUnavailable):
                log.error("record_postponed", endpoint=requester.endpoint, reason=str(result))
            elif isinstance(result, BaseException):
                # A fault of ours: this is never written.
                self._metrics.internal_errors.inc()
                log.error("record_failed", endpoint=requester.endpoint, exc_info=result)
        self._tell(requester, ending, verdict, seconds)

    def _own_row(
        self,
        requester: Requester,
        association: Association,
        ending: Ending,
        verdict: Done | Failed,
        step: StepRecord,
        *,
        alone: bool,
    ) -> list[Awaitable[object]]:
        """A row beside the bootstraps; when there was none on this association, the device was here by it."""
        succeeded = isinstance(verdict, Done)
        row = RecordEnrollment(
            id=uuid4(),
            account_id=requester.account_id,
            endpoint=requester.endpoint,
            started_at=ending.started_at,
            ended_at=self._now(),
            profile=requester.profile.name,
            credential=requester.kind,
            address=association.address_text,
            outcome="succeeded" if succeeded else "failed",
            cause=None if isinstance(verdict, Done) else verdict.cause.value,
            sentence="" if isinstance(verdict, Done) else sentences.for_failure(verdict, requester.endpoint),
            issuance_id=ending.issuance_id,
            steps=rows((step._replace(at=0.0),)),
            failed_ca=ending.failed_ca,
        )
        writes: list[Awaitable[object]] = [self._writer.write(row)]
        # What goes wrong with a service of the operator's own says nothing of the device as such.
        if alone and (succeeded or (ending.service == LWM2M and not requester.operational)):
            factory = policy.factory(association.peer, requester.account_id)
            touched = TouchDevice(
                account_id=requester.account_id,
                endpoint=requester.endpoint,
                profile=requester.profile.name,
                session_id=row.id,
                at=ending.started_at,
                state="bootstrapped" if succeeded else "failed",
                cause=row.cause,
                verified_by=factory.verified_by if factory is not None else None,
                factory_until=factory.until if factory is not None else None,
                factory_key=factory.key if factory is not None else None,
                failed_ca=ending.failed_ca,
            )
            writes.append(self._writer.write(touched))
        return writes

    def _count(self, ending: Ending, verdict: Done | Failed, seconds: float) -> None:
        metrics = self._metrics
        if isinstance(verdict, Done):
            metrics.enrollments.inc("delivered")
            metrics.enrollment_seconds.observe(seconds)
        elif ending.later:
            metrics.enrollments.inc("later")
        else:
            metrics.enrollments.inc("failed")
            metrics.enrollment_failures.inc(verdict.cause.value)

    def _tell(self, requester: Requester, ending: Ending, verdict: Done | Failed, seconds: float) -> None:
        told = {
            "endpoint": requester.endpoint,
            "path": ending.path,
            "ms": round(seconds * 1000),
            "issuance": ending.issuance_id.hex if ending.issuance_id is not None else None,
        }
        if isinstance(verdict, Done):
            log.info("certificate_delivered", format=ending.format, **told)
        elif ending.later:
            log.info("enrollment_postponed", reason=ending.note, **told)
        else:
            sentence = sentences.for_failure(verdict, requester.endpoint)
            log.warning("enrollment_failed", cause=verdict.cause.value, sentence=sentence, **told)


def _verdict(conversation: Conversation, ending: Ending) -> Done | Failed:
    if ending.delivered:
        return Done()
    if ending.cause is not None:
        return Failed(ending.cause, ending.path, ending.code, ending.note)
    reason = f"its association ended: {conversation.gone}" if conversation.gone is not None else "no acknowledgement"
    return Failed(FailureCause.NOT_FETCHED, ending.path, None, reason)


def _cause(error: Exception) -> FailureCause:
    match error:
        case IssuerError():
            return failure(error)[0]
        case NoProfile():
            return FailureCause.NO_PROFILE
        case KeyTaken():
            return FailureCause.KEY_TAKEN
        case NotAuthenticated() | NotAuthorized():
            return FailureCause.NOT_AUTHORIZED
        case NotFound():
            return FailureCause.NO_SERVICE
        case CsrRefused():
            return FailureCause.CSR_REFUSED
        case StoreUnavailable():
            return FailureCause.STORE_UNAVAILABLE
        case DailyLimit():
            return FailureCause.TOO_MANY_CERTIFICATES
        case TemporarilyUnavailable():
            return FailureCause.ISSUER_UNAVAILABLE
        case ServiceError():
            return FailureCause.BAD_REQUEST
        case _:
            return FailureCause.INTERNAL
