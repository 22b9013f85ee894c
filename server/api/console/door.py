"""Who is signed in to the console, what a changing request must carry, and what a role may do.

The cookie holds a random token; the record holds its SHA-256. A form carries a second token made from the first, which
no other site can know (CSRF); besides, the cookie is SameSite=Strict and the browser's own word on where a request
comes from must not be another site.
"""

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.responses import Response

from server.api.access import ORDER, ROLE_NAMES, Caller, Office
from server.api.console import forms
from server.errors import NotAuthenticated, NotAuthorized
from server.store import accounts, operators
from server.store.accounts import Account, Role
from server.store.audit import Actor
from server.store.operators import SignedIn

TOKEN_BYTES = 32
CSRF_FIELD, CSRF_HEADER = "csrf", "X-CSRF-Token"
SAFE = frozenset({"GET", "HEAD"})
# A page that is read on does not end; noting each one would be a write for each.
NOTED_EVERY = timedelta(minutes=1)


class SignInNeeded(NotAuthenticated):
    """Nobody is signed in; `then` is where to go afterwards."""

    def __init__(self, then: str) -> None:
        super().__init__("sign in first")
        self.then = then


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who looks at a page: the caller that the API would see, and the tokens of this browser."""

    caller: Caller
    account: Account
    signed_in: SignedIn
    token: str = field(repr=False)

    @property
    def csrf(self) -> str:
        """What every changing form of this browser carries."""
        return csrf_of(self.token)

    @property
    def role(self) -> str:
        """As people read it."""
        return ROLE_NAMES[self.caller.role]

    def may(self, role: Role) -> bool:
        """Whether the visitor has `role` or more."""
        return ORDER.index(self.caller.role) >= ORDER.index(role)


# -- tokens and cookies -----------------------------------------------------------------


def new_token() -> str:
    """A token for a browser."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def hash_of(token: str) -> bytes:
    """What the record keeps of a token."""
    return sha256(token.encode()).digest()


def csrf_of(token: str) -> str:
    """The token of forms that belongs to a browser's token, and does not tell it."""
    return hmac.new(token.encode(), b"csrf", sha256).hexdigest()


def cookie_name(request: Request, name: str) -> str:
    """With https the browser itself holds the cookie to this host and to https (`__Host-`)."""
    return f"__Host-firstlight-{name}" if is_https(request) else f"firstlight-{name}"


def is_https(request: Request) -> bool:
    """Whether the browser speaks https to us or to the proxy before us."""
    return request.url.scheme == "https"


def cookie(request: Request, name: str) -> str:
    """A cookie of ours; empty when there is none."""
    return request.cookies.get(cookie_name(request, name), "")


def set_cookie(request: Request, response: Response, name: str, value: str, *, seconds: int | None = None) -> None:
    """Give the browser a cookie that no script and no other site can use."""
    response.set_cookie(
        cookie_name(request, name),
        value,
        max_age=seconds,
        path="/",
        secure=is_https(request),
        httponly=True,
        samesite="strict",
    )


def drop_cookie(request: Request, response: Response, name: str) -> None:
    """Take a cookie back."""
    response.delete_cookie(
        cookie_name(request, name), path="/", secure=is_https(request), httponly=True, samesite="strict"
    )


# -- who asks ---------------------------------------------------------------------------


def idle_after(office: Office, now: datetime) -> datetime:
    """Sign-ins that were not used since then have ended."""
    return now - timedelta(minutes=office.config.console.idle_minutes)


async def signed_in(request: Request) -> Visitor:
    """The visitor of a page; SignInNeeded, or NotAuthorized for a change that no page of ours asked for."""
    office: Office = request.app.state.office
    now = office.now()
    token = cookie(request, "session")
    found = None
    if token:
        found = await operators.find_session(
            office.database, hash_of(token), now=now, used_after=idle_after(office, now)
        )
    account = await accounts.find(office.database, found.account_id) if found is not None else None
    if found is None or account is None:
        raise SignInNeeded(_wanted(request))
    if request.method not in SAFE:
        await check_origin(request, token)
    if now - found.used_at > NOTED_EVERY:
        await operators.use_session(office.database, hash_of(token), now)
    owner = found.operator_id or found.api_key_id
    assert owner is not None
    visitor = Visitor(
        caller=Caller(
            office=office,
            account_id=found.account_id,
            key_id=owner,
            role=found.role,
            actor=Actor(kind="console", name=found.name, request_id=request.state.request_id),
        ),
        account=account,
        signed_in=found,
        token=token,
    )
    request.state.visitor = visitor
    return visitor


async def check_origin(request: Request, token: str) -> None:
    """NotAuthorized unless the request comes from a page of ours and carries its token."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        # Over plain http from another host browsers say only this.
        origin = request.headers.get("Origin")
        ours = origin is None or urlsplit(origin).netloc == request.headers.get("Host", "")
    given = request.headers.get(CSRF_HEADER) or (await forms.read(request)).text(CSRF_FIELD)
    if not ours or not hmac.compare_digest(given.encode(), csrf_of(token).encode()):
        raise NotAuthorized("the form is an old one or not ours; open the page again and repeat")


def at_least(role: Role) -> Callable[[Visitor], Awaitable[Visitor]]:
    """A dependency: the visitor, when its role is `role` or above."""

    async def allowed(visitor: Annotated[Visitor, Depends(signed_in)]) -> Visitor:
        if not visitor.may(role):
            raise NotAuthorized(f"you are signed in as {visitor.role}; this needs the role {ROLE_NAMES[role]}")
        return visitor

    return allowed


ReaderVisits = Annotated[Visitor, Depends(at_least("reader"))]
OperatorVisits = Annotated[Visitor, Depends(at_least("operator"))]
AdministratorVisits = Annotated[Visitor, Depends(at_least("admin"))]


def _wanted(request: Request) -> str:
    # The page that a fragment belongs to, never the fragment.
    where = urlsplit(request.headers.get("HX-Current-URL", "")) if request.headers.get("HX-Request") else request.url
    return inside(where.path + (f"?{where.query}" if where.query else ""))


def inside(path: str) -> str:
    """`path` when it leads to a page of ours, else the start page: no redirect leaves the house."""
    good = path.startswith("/") and not path.startswith(("//", "/\\", "/sign-")) and path.isprintable()
    return path if good else "/"
