"""`/v1/trusted-certificates/{id}/dependents`: whom it would concern if a trusted certificate counted no more."""

from typing import Any

from fastapi import APIRouter

from server.admin import withdrawals
from server.api import trusted_certificates
from server.api.access import Reader
from server.api.documented import documented
from server.api.doubts import warned

router = APIRouter(prefix="/v1", tags=["Trusted certificates"])

EXAMPLE = {
    "object": "trusted-certificate-dependents",
    "devices": 1200,
    "certificate_issuers": [],
    "profiles": ["meters"],
    "warnings": [
        {
            "kind": "devices_refused",
            "message": "1,200 devices came with it last: their next bootstrap is refused, unless another trusted "
            "certificate stands above their own; what they hold stays valid",
            "next_step": "trust it again if they are to come",
        }
    ],
}


@router.get("/trusted-certificates/{certificate_id}/dependents", responses=documented(200, EXAMPLE, 400, 401, 403, 404))
async def read_dependents(asking: Reader, certificate_id: str) -> dict[str, Any]:
    """What is to be known before a trusted certificate is removed: who is refused from then on, and what to do."""
    row = await trusted_certificates.find(asking, certificate_id)
    found = await withdrawals.dependents(asking.database, asking.account_id, row)
    return {
        "object": "trusted-certificate-dependents",
        "devices": found.devices,
        "certificate_issuers": list(found.cas),
        "profiles": list(found.profiles),
        **warned(found.doubts(row, removed=True)),
    }
