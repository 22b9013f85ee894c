"""The views of the console and their places, in the portal's words (docs/console.md)."""

from dataclasses import dataclass

from server.api.console.door import Visitor
from server.store.accounts import Role

CERTIFICATES = "/device-identity/certificates"
CERTIFICATE_AUTHORITIES = "/device-identity/certificate-authorities"
PRE_SHARED_KEYS = "/device-identity/pre-shared-keys"
SERVER = "/device-identity/server"
NO_OWN_CAS = (
    "Third-party CAs are switched off for this account. An administrator of the default account allows them: "
    "Access › Accounts, or PUT /v3/accounts/ID with third_party_ca true."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One entry of the navigation; `group` is the heading it stands under, `icon` a symbol of `icons.html`."""

    name: str
    path: str
    icon: str
    group: str = ""
    # Only for accounts that may have CAs of their own.
    own_cas: bool = False
    # Only for the default account.
    only_default: bool = False
    # Whom it is for; others do not see it.
    role: Role = "reader"


VIEWS: tuple[View, ...] = (
    View(name="Start", path="/", icon="home"),
    View(name="Devices", path="/devices", icon="device"),
    View(name="Certificates", path=CERTIFICATES, icon="certificate", group="Device identity"),
    View(
        name="Certificate Authorities",
        path=CERTIFICATE_AUTHORITIES,
        icon="authority",
        group="Device identity",
        own_cas=True,
    ),
    View(name="Pre-shared keys", path=PRE_SHARED_KEYS, icon="key", group="Device identity"),
    View(name="Server", path=SERVER, icon="server", group="Device identity"),
    View(name="Profiles", path="/profiles", icon="profile", group="Operation"),
    View(name="Audit", path="/audit", icon="audit", group="Operation"),
    View(name="Access", path="/access", icon="access", group="Operation", role="admin"),
)


# What Ctrl+K offers besides the views: pages within them, and things to do.
ACTIONS: tuple[View, ...] = (
    View(name="Issued certificates", path=f"{CERTIFICATES}/issued", icon="certificate"),
    View(name="Seen, not admitted", path="/devices/seen", icon="device", role="admin", only_default=True),
    View(name="Dry run", path="/profiles/dry-run", icon="profile"),
    View(name="New profile", path="/profiles/new", icon="plus", role="operator"),
    View(name="Add a pre-shared key", path=f"{PRE_SHARED_KEYS}/add", icon="plus", role="operator"),
    View(name="Upload a certificate", path=f"{CERTIFICATES}/upload", icon="plus", role="admin"),
    View(name="Add CA", path=f"{CERTIFICATE_AUTHORITIES}/add", icon="plus", own_cas=True, role="admin"),
)
# Where it looks for what was typed: that goes behind the path.
SEARCHES: tuple[View, ...] = (
    View(name="Devices named", path="/devices?endpoint_name__like=", icon="search"),
    View(name="Certificates of devices named", path=f"{CERTIFICATES}/issued?endpoint_name__like=", icon="search"),
    View(name="Changes of", path="/audit?subject__like=", icon="search"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A view as one visitor sees it on one page; `why_not` says why it cannot be opened."""

    view: View
    current: bool
    why_not: str = ""


def entries(visitor: Visitor, path: str) -> list[Entry]:
    """The navigation of a page at `path`."""
    return [
        Entry(
            view,
            current=path == view.path or (view.path != "/" and path.startswith(f"{view.path}/")),
            why_not=NO_OWN_CAS if view.own_cas and not visitor.account.third_party_ca else "",
        )
        for view in VIEWS
        if visitor.may(view.role)
    ]


def actions(visitor: Visitor) -> list[View]:
    """What the visitor may do from anywhere."""
    return [
        each
        for each in ACTIONS
        if visitor.may(each.role)
        and (visitor.account.third_party_ca or not each.own_cas)
        and (visitor.account.is_default or not each.only_default)
    ]
