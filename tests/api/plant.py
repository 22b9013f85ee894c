"""The CFSSL of a plant, as an operator registers it."""

from typing import Any

from tests.api.conftest import Api
from tests.issuers.peers.cfssl import PAGE_KEY

CFSSL = {
    "name": "Plant CA",
    "issuer_type": "CFSSL_AUTH",
    "description": "signs",
    "issuer_attributes": {"host_url": "http://127.0.0.1:9", "cfssl_profile": "CA", "cfssl_label": ""},
    "issuer_credentials": {"hmac_hex_key": "0123456789ABCDEF0123456789ABCDEF"},
}
ISSUERS, SERVICES = "/v3/certificate-issuers", "/v3/certificate-issuer-configurations"


async def registered(api: Api, **changes: object) -> dict[str, Any]:
    """The CA as the API gives it back."""
    return await api.ask("POST", ISSUERS, 201, {**CFSSL, **changes})


async def registered_at(
    api: Api, url: str, *, hmac_hex_key: str = PAGE_KEY, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """The same of one that runs at `url`."""
    body = {
        **CFSSL,
        "issuer_attributes": {"host_url": url, "cfssl_profile": "CA"},
        "issuer_credentials": {"hmac_hex_key": hmac_hex_key},
    }
    return await api.ask("POST", ISSUERS, 201, body, headers)
