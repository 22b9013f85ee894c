"""Every screen of the console once: what axe looks at, what the policy is checked on, what is photographed.

A view adds its screens here, dialogs and error states included. `{name}` in a path is an id of the scene.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

from playwright.async_api import Page

from tests.console.rig import Rig, Who
from tests.console.views import CAS, CERTIFICATES, PRE_SHARED_KEYS

Prepare = Callable[[Page, Rig], Awaitable[None]]


async def _nothing(page: Page, rig: Rig) -> None:
    """The screen is what the address shows."""


@dataclass(frozen=True)
class Screen:
    """One screen: an address, who looks at it, and what is done there before."""

    name: str
    path: str
    prepare: Prepare = _nothing
    who: Who = "administrator"


def pressing(*buttons: str) -> Prepare:
    """Press buttons or links by their names, one after the other, until a dialog stands there."""

    async def prepare(page: Page, rig: Rig) -> None:
        for name in buttons:
            await page.get_by_role("button", name=name).or_(page.get_by_role("link", name=name)).first.click()
        await page.locator("dialog[open]").wait_for()

    return prepare


async def wrong_key(page: Page, rig: Rig) -> None:
    """The sign-in after a wrong key."""
    await page.get_by_label("API key").fill("ak_1wrong")
    await page.get_by_role("button", name="Sign in with the key").click()
    await page.get_by_role("alert").wait_for()


async def curl_open(page: Page, rig: Rig) -> None:
    """The calls of the page shown."""
    await page.get_by_text("The same with curl").click()


async def palette(page: Page, rig: Rig) -> None:
    """Ctrl+K with something typed."""
    await page.keyboard.press("Control+k")
    await page.get_by_role("searchbox", name="Go to").fill("ce")
    await page.get_by_role("link", name="Devices named ce", exact=True).wait_for()


# -- certificate authorities -----------------------------------------------------------------


async def add_cfssl(page: Page, rig: Rig) -> None:
    """Add CA with the fields of CFSSL_AUTH, all of them."""
    await pressing("Add CA")(page, rig)
    await page.get_by_label("Issuer type").select_option("CFSSL_AUTH")
    await page.get_by_label("HMAC Hex key").wait_for()
    await page.get_by_text("Further settings").click()


async def add_global_sign(page: Page, rig: Rig) -> None:
    """Add CA with the fields of Global Sign."""
    await pressing("Add CA")(page, rig)
    await page.get_by_label("Issuer type").select_option("GLOBAL_SIGN")
    await page.get_by_label("Passphrase").wait_for()


async def add_wrong(page: Page, rig: Rig) -> None:
    """Add CA with a key of an odd number of characters."""
    await pressing("Add CA")(page, rig)
    await page.get_by_label("Issuer type").select_option("CFSSL_AUTH")
    await page.get_by_label("Name").fill("Second plant")
    await page.get_by_label("Host URL").fill("http://127.0.0.1:8888")
    await page.get_by_label("HMAC Hex key").fill("0123456789abcde")
    await page.locator("dialog").get_by_role("button", name="Add CA").click()
    await page.get_by_text("even number of hexadecimal characters").wait_for()


def at_plant(action: str) -> Prepare:
    """An action of the line of Plant CA."""

    async def prepare(page: Page, rig: Rig) -> None:
        await page.get_by_role("row", name="Plant CA").get_by_role("link", name=action).click()
        await page.locator("dialog[open]").wait_for()

    return prepare


async def at_harbour(page: Page, rig: Rig) -> None:
    """The pop-up of another CA: what moving a service there would reach."""
    row = page.get_by_role("row", name="Harbour CA")
    await row.get_by_role("link", name="Service configuration of Harbour CA").click()
    await page.get_by_role("radio", name="LWM2M").check()
    await page.get_by_text("Create moves 'LWM2M'").wait_for()


async def move_lwm2m(page: Page, rig: Rig) -> None:
    """The pop-up of another CA: what moving LWM2M there would reach, and a name that is reserved."""
    row = page.get_by_role("row", name="Harbour CA")
    await row.get_by_role("link", name="Service configuration of Harbour CA").click()
    await page.get_by_label("Name of a new service configuration").fill("lwm2m")
    await page.get_by_role("button", name="Create the service configuration").click()
    await page.get_by_text("reserved").wait_for()


# -- certificates ------------------------------------------------------------------------------


async def upload_preview(page: Page, rig: Rig) -> None:
    """An upload before it is saved."""
    await pressing("Upload a certificate")(page, rig)
    await page.get_by_label("Name").fill("Turku factory")
    await page.get_by_role("textbox", name="Certificate").fill(rig.scene.ca.pem.decode())
    await page.get_by_label("How will devices use this certificate?").select_option("bootstrap")
    await page.get_by_role("button", name="Next").click()
    await page.get_by_role("button", name="Trust it").wait_for()


async def upload_wrong(page: Page, rig: Rig) -> None:
    """An upload of something else."""
    await pressing("Upload a certificate")(page, rig)
    await page.get_by_label("Name").fill("Turku factory")
    await page.get_by_role("textbox", name="Certificate").fill("this is no certificate")
    await page.get_by_label("How will devices use this certificate?").select_option("bootstrap")
    await page.get_by_role("button", name="Next").click()
    await page.get_by_text("the file holds no certificate").wait_for()


async def renew_unreachable(page: Page, rig: Rig) -> None:
    """A renewal of a device that is not registered."""
    await pressing("Renew")(page, rig)
    await page.locator("dialog").get_by_role("button", name="Renew").click()
    await page.get_by_text("is not registered").wait_for()


async def pem_open(page: Page, rig: Rig) -> None:
    """The PEM shown."""
    await page.get_by_text("PEM", exact=True).first.click()


async def keys_wrong(page: Page, rig: Rig) -> None:
    """Many keys of which one is too short."""
    await pressing("Add many")(page, rig)
    await page.get_by_role("textbox", name="Lines").fill(
        "gauge-1:00112233445566778899aabbccddeeff:gauge-1\ngauge-2:0011:gauge-2"
    )
    await page.get_by_role("button", name="Add the keys").click()
    await page.get_by_text("line 2").wait_for()


# -- devices, profiles, audit, access -----------------------------------------------------------


async def live(page: Page, rig: Rig) -> None:
    """The start page once an event has come."""
    await page.get_by_text("live", exact=True).wait_for()


async def numbers_open(page: Page, rig: Rig) -> None:
    """The plots as a table."""
    await live(page, rig)
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_text("The plots as a table").click()


async def tried(page: Page, rig: Rig) -> None:
    """The dry run of the text in the editor."""
    await page.get_by_label("Endpoint name").fill("meter-00001")
    await page.get_by_role("button", name="Try it").click()
    await page.get_by_text("would succeed").wait_for()


async def tried_wrong(page: Page, rig: Rig) -> None:
    """A text that is no profile, judged while it is typed."""
    text = page.get_by_label("Text (TOML)")
    await text.fill((await text.input_value()) + "\ncolour = 1\n")
    await page.get_by_role("button", name="Try it").click()
    await page.locator("#checked").get_by_role("alert").wait_for()


async def record_open(page: Page, rig: Rig) -> None:
    """What the record keeps of a line, and a value that is long."""
    for text in ("Record", "show"):
        await page.get_by_text(text, exact=True).first.click()


async def key_made(page: Page, rig: Rig) -> None:
    """A new key, shown once."""
    await pressing("New API key")(page, rig)
    await page.get_by_label("Name").fill(f"robot {uuid4().hex[:8]}")
    await page.get_by_role("button", name="Make the key").click()
    await page.get_by_text("Copy the key now").wait_for()


SCREENS: tuple[Screen, ...] = (
    Screen("sign-in", "/sign-in", who="nobody"),
    Screen("sign-in-refused", "/sign-in", wrong_key, who="nobody"),
    Screen("nothing-there", "/nothing-there"),
    Screen("not-allowed", f"{CAS}/add", who="reader"),
    Screen("go-to", "/devices", palette),
    Screen("start", "/?window=15m", live),
    Screen("start-numbers", "/?window=24h", numbers_open),
    Screen("start-empty", "/", live, who="newcomer"),
    Screen("devices", "/devices"),
    Screen("devices-filtered", "/devices?last_outcome__eq=failed&sort=endpoint_name"),
    Screen("devices-nothing-fits", "/devices?endpoint_name__like=nobody"),
    Screen("devices-empty", "/devices", who="newcomer"),
    Screen("devices-seen", "/devices/seen"),
    Screen("devices-seen-key", "/devices/seen", pressing("Add its key")),
    Screen("device", "/devices/{device}"),
    Screen("device-failed", "/devices/{failing}"),
    Screen("device-forget", "/devices/{device}", pressing("Forget this device")),
    Screen("profiles", "/profiles"),
    Screen("profile", "/profiles/default", tried),
    Screen("profile-wrong", "/profiles/default", tried_wrong),
    Screen("profile-reader", "/profiles/default", who="reader"),
    Screen("profile-new", "/profiles/new?endpoint=pump-*"),
    Screen("profile-delete", "/profiles/default", pressing("Delete")),
    Screen("dry-run", "/profiles/dry-run?endpoint_name=meter-00001"),
    Screen("audit", "/audit"),
    Screen("audit-record", "/audit", record_open),
    Screen("audit-devices", "/audit?actor_kind__eq=device"),
    Screen("audit-nothing-fits", "/audit?subject__like=nobody"),
    Screen("access", "/access"),
    Screen("access-key", "/access", pressing("New API key")),
    Screen("access-key-made", "/access", key_made),
    Screen("access-operator", "/access", pressing("New operator")),
    Screen("access-account", "/access", pressing("New account")),
    Screen("access-revoke", "/access", pressing("Revoke")),
    Screen("access-switch-off", "/access", pressing("Switch off")),
    Screen("keys", PRE_SHARED_KEYS),
    Screen("keys-nothing-fits", f"{PRE_SHARED_KEYS}?identity__like=nobody"),
    Screen("keys-empty", PRE_SHARED_KEYS, who="newcomer"),
    Screen("keys-reader", PRE_SHARED_KEYS, who="reader"),
    Screen("keys-add", PRE_SHARED_KEYS, pressing("Add a key")),
    Screen("keys-add-many-wrong", PRE_SHARED_KEYS, keys_wrong),
    Screen("keys-remove", PRE_SHARED_KEYS, pressing("Remove")),
    Screen("server", "/device-identity/server", curl_open),
    Screen("authorities", CAS),
    Screen("authorities-empty", CAS, who="newcomer"),
    Screen("authorities-reader", CAS, who="reader"),
    Screen("authority-add", CAS, pressing("Add CA")),
    Screen("authority-add-cfssl", CAS, add_cfssl),
    Screen("authority-add-globalsign", CAS, add_global_sign),
    Screen("authority-add-wrong", CAS, add_wrong),
    Screen("authority-add-page", f"{CAS}/add?issuer_type=CFSSL_AUTH"),
    Screen("authority-edit", CAS, at_plant("Edit")),
    Screen("authority-verify", CAS, at_plant("Verify")),
    Screen("authority-verified", f"{CAS}/{{plant}}/verifications/{{plant-verification}}"),
    Screen("authority-verified-failed", f"{CAS}/{{away}}/verifications/{{away-verification}}"),
    Screen("authority-delete-refused", CAS, at_plant("Delete")),
    Screen("service-configuration", CAS, at_plant("Service configuration of Plant CA")),
    Screen("service-configuration-other", CAS, at_harbour),
    Screen("service-configuration-moving", CAS, move_lwm2m),
    Screen("certificates", CERTIFICATES),
    Screen("certificates-empty", CERTIFICATES, who="newcomer"),
    Screen("certificate-upload", CERTIFICATES, pressing("Upload a certificate")),
    Screen("certificate-upload-preview", CERTIFICATES, upload_preview),
    Screen("certificate-upload-wrong", CERTIFICATES, upload_wrong),
    Screen("certificate-trusted", f"{CERTIFICATES}/trusted/{{factory}}", pem_open),
    Screen("certificate-deny", f"{CERTIFICATES}/trusted/{{factory}}", pressing("Deny")),
    Screen("certificate-developer", CERTIFICATES, pressing("Developer certificate")),
    Screen("issued", f"{CERTIFICATES}/issued"),
    Screen("issued-nothing-fits", f"{CERTIFICATES}/issued?endpoint_name__like=nobody"),
    Screen("issued-empty", f"{CERTIFICATES}/issued", who="newcomer"),
    Screen("issued-one", f"{CERTIFICATES}/issued/{{certificate}}"),
    Screen("issued-revoked", f"{CERTIFICATES}/issued/{{revoked}}"),
    Screen("issued-renew", f"{CERTIFICATES}/issued/{{certificate}}", pressing("Renew")),
    Screen("issued-renew-unreachable", f"{CERTIFICATES}/issued/{{certificate}}", renew_unreachable),
    Screen("issued-revoke", f"{CERTIFICATES}/issued/{{certificate}}", pressing("Revoke")),
)
