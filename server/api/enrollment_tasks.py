"""`/v3/device-enrollments-bulk-uploads` and `-bulk-deletes`: CSV files of enrolment identities."""

import asyncio
import csv
from email.parser import BytesParser
from email.policy import HTTP
from io import StringIO
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.access import Caller, Operator, Reader, parse_id
from server.api.device_enrollments import fingerprint_in
from server.api.documented import EXAMPLE_ID, documented
from server.api.lists import time
from server.errors import BadRequest
from server.store import enrollment_tasks
from server.store.enrollment_tasks import TWICE, Fault, Kind, Task

router = APIRouter(prefix="/v3", tags=["Device enrollments"])

LARGEST_FILE = 10 << 20
# What stands around the file in a multipart body.
LARGEST_BODY = LARGEST_FILE + (64 << 10)
# A file has room for no more identities: what has more lines is another list, and each would be a fault to keep.
MOST_LINES = 110_000
FIELD = "enrollment_identities"
# Faults of one list that are kept word for word.
LONGEST_IDENTITY = 100
# As the schema of the original has it, for both kinds: clients made from it know no other word.
OBJECT = "enrollment-identity-bulk-uploads"
PATHS: dict[Kind, str] = {"upload": "device-enrollments-bulk-uploads", "delete": "device-enrollments-bulk-deletes"}

EXAMPLE = {
    "object": OBJECT,
    "id": EXAMPLE_ID,
    "etag": "1",
    "account_id": EXAMPLE_ID,
    "created_at": "2026-11-23T12:00:00.000Z",
    "completed_at": "2026-11-23T12:00:01.000Z",
    "status": "completed",
    "total_count": 100,
    "processed_count": 100,
    "errors_count": 1,
    "errors_report_file": f"https://bootstrap.example.com/v3/device-enrollments-bulk-uploads/{EXAMPLE_ID}/errors_report.csv",
    "full_report_file": None,
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "string", "format": "binary"}},
                },
                "example": {FIELD: "enrollment_identity\r\nA-" + ":".join(["6E"] * 32) + "\r\n"},
            }
        },
    }
}
REPORT = {
    **documented(200, None, 401, 403, 404),
    200: {"description": "The lines that failed.", "content": {"text/csv": {"example": "line,identity,reason\r\n"}}},
}


def shown(task: Task, request: Request) -> dict[str, Any]:
    """A task as the API shows it; it is complete when it is answered, and its report is where `request` was sent."""
    report = f"{request.base_url}v3/{PATHS[task.kind]}/{task.id.hex}/errors_report.csv"
    return {
        "object": OBJECT,
        "id": task.id.hex,
        "etag": "1",
        "account_id": task.account_id.hex,
        "created_at": time(task.created_at),
        "completed_at": time(task.completed_at),
        "status": "completed",
        "total_count": task.total,
        "processed_count": task.total,
        "errors_count": len(task.faults),
        "errors_report_file": report if task.faults else None,
        "full_report_file": None,
    }


@router.post(f"/{PATHS['upload']}", status_code=201, responses=documented(201, EXAMPLE, 401, 403), openapi_extra=BODY)
async def claim_many(asking: Operator, request: Request) -> dict[str, Any]:
    """Claim every device of a CSV file: one identity a line, 10 MB at most; lines that fail hinder no others."""
    return await _run(asking, request, "upload")


@router.get(f"/{PATHS['upload']}/{{task_id}}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_upload(asking: Reader, request: Request, task_id: str) -> dict[str, Any]:
    """What became of a list of claims."""
    return shown(await _find(asking, "upload", task_id), request)


@router.get(f"/{PATHS['upload']}/{{task_id}}/errors_report.csv", response_class=Response, responses=REPORT)
async def read_upload_errors(asking: Reader, task_id: str) -> Response:
    """The lines of a list of claims that failed, with the reason of each."""
    return _report(await _find(asking, "upload", task_id))


@router.post(f"/{PATHS['delete']}", status_code=201, responses=documented(201, EXAMPLE, 401, 403), openapi_extra=BODY)
async def give_up_many(asking: Operator, request: Request) -> dict[str, Any]:
    """Give up the claim of every device of a CSV file: one identity a line, 10 MB at most."""
    return await _run(asking, request, "delete")


@router.get(f"/{PATHS['delete']}/{{task_id}}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_delete(asking: Reader, request: Request, task_id: str) -> dict[str, Any]:
    """What became of a list of claims to give up."""
    return shown(await _find(asking, "delete", task_id), request)


@router.get(f"/{PATHS['delete']}/{{task_id}}/errors_report.csv", response_class=Response, responses=REPORT)
async def read_delete_errors(asking: Reader, task_id: str) -> Response:
    """The lines of such a list that failed, with the reason of each."""
    return _report(await _find(asking, "delete", task_id))


async def _run(asking: Caller, request: Request, kind: Kind) -> dict[str, Any]:
    now = asking.office.now()
    body = await _body(request)
    # Seconds for a large file, in which the others go on.
    wanted, faults = await asyncio.to_thread(_read, request.headers.get("Content-Type", ""), body)
    task = await enrollment_tasks.run(asking.database, asking.actor, asking.account_id, kind, wanted, faults, now)
    return shown(task, request)


async def _find(asking: Caller, kind: Kind, task_id: str) -> Task:
    wanted = parse_id(task_id, f"bulk {kind}")
    return await enrollment_tasks.find(asking.database, asking.account_id, kind, wanted)


def _report(task: Task) -> Response:
    out = StringIO()
    rows = csv.writer(out)
    rows.writerow(("line", "identity", "reason"))
    rows.writerows((fault.line, fault.identity, fault.reason) for fault in task.faults)
    return Response(out.getvalue(), media_type="text/csv")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise BadRequest(f"the file has at most {LARGEST_FILE} bytes", field=FIELD)
    return bytes(body)


def _read(content_type: str, body: bytes) -> tuple[dict[bytes, tuple[int, str]], list[Fault]]:
    return identities(_file(content_type, body))


def _file(content_type: str, body: bytes) -> str:
    """The file in the field `enrollment_identities` of a multipart body (RFC 7578); BadRequest."""
    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    for part in message.iter_parts() if message.is_multipart() else ():
        if part.get_param("name", header="Content-Disposition") == FIELD:
            content = part.get_payload(decode=True)
            if isinstance(content, bytes) and len(content) <= LARGEST_FILE:
                return content.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    raise BadRequest(
        f"send multipart/form-data with a CSV file of at most {LARGEST_FILE} bytes in the field {FIELD}", field=FIELD
    )


def identities(text: str) -> tuple[dict[bytes, tuple[int, str]], list[Fault]]:
    """Fingerprint → its line and identity, and the lines that hold none; a header and empty lines count for nothing.

    BadRequest for more than `MOST_LINES`.
    """
    wanted: dict[bytes, tuple[int, str]] = {}
    faults: list[Fault] = []
    lines = text.removeprefix("\ufeff").splitlines()
    if len(lines) > MOST_LINES:
        raise BadRequest(f"the file has {len(lines)} lines; at most {MOST_LINES} are taken", field=FIELD)
    for line, row in enumerate(lines, 1):
        identity = row.partition(",")[0].partition(";")[0].strip().strip('"').strip()
        if not identity or (line == 1 and not identity.startswith("A-")):
            continue
        try:
            fingerprint = fingerprint_in(identity)
        except BadRequest as error:
            faults.append(Fault(line, identity[:LONGEST_IDENTITY], error.message))
            continue
        if fingerprint in wanted:
            faults.append(Fault(line, identity, TWICE))
        else:
            wanted[fingerprint] = (line, identity)
    return wanted, faults
