"""The portal as the page "Integrating with a third-party CA" tells it: each numbered step is one test.

A new account walks the way, in the order of the page: what one test made is there for the next.
"""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.console.rig import Rig
from tests.issuers.peers.cfssl import PAGE_KEY

CERTIFICATES = "/device-identity/certificates"
CAS = "/device-identity/certificate-authorities"


@pytest_asyncio.fixture(loop_scope="session")
async def portal(rig: Rig) -> AsyncIterator[Page]:
    """The administrator of an account where nothing is yet, on the start page."""
    async with rig.page(who="administrator") as page:
        yield page


def dialog(page: Page) -> Locator:
    return page.locator("dialog[open]")


def line(page: Page, name: str) -> Locator:
    """The line of a CA in the list of CAs."""
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))


async def fill(page: Page, **fields: str) -> None:
    """Type into the fields of the dialog by their labels, _ for a blank."""
    for label, text in fields.items():
        await dialog(page).get_by_label(label.replace("_", " "), exact=False).first.fill(text)


async def add_cfssl(rig: Rig, name: str) -> str:
    """A CA by the API, for a test that begins after it."""
    made = await rig.ask(
        "POST",
        "/v3/certificate-issuers",
        {
            "name": name,
            "issuer_type": "CFSSL_AUTH",
            "issuer_attributes": {"host_url": rig.scene.cfssl.url, "cfssl_profile": "CA"},
            "issuer_credentials": {"hmac_hex_key": PAGE_KEY},
        },
        201,
    )
    return str(made["id"])


async def signs_for(rig: Rig, reference: str) -> str | None:
    """The id of the CA that signs for a service, by the API; None for no such service."""
    listed = await rig.ask("GET", "/v3/certificate-issuer-configurations")
    return next((row["certificate_issuer_id"] for row in listed["data"] if row["reference"] == reference), None)


# -- Configuration using Device Management Portal ------------------------------------------------


async def test_portal_1_launch_the_device_management_portal(rig: Rig) -> None:
    """ "Launch the Device Management Portal." """
    async with rig.page(who="nobody") as page:
        await expect(page).to_have_title("Sign in · Firstlight")
        await page.get_by_label("API key").fill(rig.key)
        await page.get_by_role("button", name="Sign in with the key").click()
        await expect(page).to_have_title("Start · Firstlight")


async def test_portal_2_navigate_to_device_identity(portal: Page) -> None:
    """ "Navigate to Device Identity." """
    await portal.get_by_role("navigation", name="Views").get_by_role("link", name="Device identity").click()
    await expect(portal.get_by_role("main")).to_contain_text("Device identity")


async def test_portal_3_select_the_certificates_view(portal: Page) -> None:
    """ "Select the Certificates view." """
    await portal.get_by_role("navigation", name="Views").get_by_role("link", name="Certificates").click()
    await expect(portal.get_by_role("heading", level=1)).to_have_text("Certificates")
    await expect(portal).to_have_url(CERTIFICATES)


async def test_portal_4_select_manage_cas_from_the_available_page_actions_at_the_top_right_corner(
    portal: Page,
) -> None:
    """ "Select Manage CAs from the available page actions at the top right corner. This takes you to the Certificate
    Authorities view." """
    await portal.goto(CERTIFICATES)
    action = portal.get_by_role("link", name="Manage CAs")
    box, viewport = await action.bounding_box(), portal.viewport_size
    assert box
    assert viewport
    assert box["x"] > viewport["width"] / 2
    assert box["y"] < viewport["height"] / 4
    await action.click()
    await expect(portal.get_by_role("heading", level=1)).to_have_text("Certificate Authorities")


async def test_note_you_cannot_select_manage_cas_in_the_portal_if_the_feature_is_not_enabled(rig: Rig) -> None:
    """ "You cannot select Manage CAs in the Portal if the feature is not enabled for your account." """
    account = f"/v3/accounts/{rig.scene.ids['newcomer']}"
    await rig.ask("PUT", account, {"third_party_ca": False})
    try:
        async with rig.page(CERTIFICATES, who="newcomer") as page:
            action = page.get_by_role("button", name="Manage CAs")
            await expect(action).to_be_disabled()
            await expect(action).to_have_accessible_description(
                re.compile("Third-party CAs are switched off for this account")
            )
            await action.click(force=True)
            await expect(page).to_have_url(CERTIFICATES)
            await expect(
                page.get_by_role("navigation").get_by_role("link", name="Certificate Authorities")
            ).to_have_count(0)
            await page.goto(CAS)
            await expect(page.get_by_role("alert")).to_contain_text("switched off for this account")
    finally:
        await rig.ask("PUT", account, {"third_party_ca": True})


# -- Managing CAs ----------------------------------------------------------------------------------


async def test_managing_cas_1_to_create_the_ca_click_add_ca(rig: Rig, portal: Page) -> None:
    """ "To create the CA click Add CA." """
    await portal.goto(CAS)
    await portal.get_by_role("link", name="Add CA").click()
    await dialog(portal).get_by_label("Issuer type").select_option("CFSSL_AUTH")
    await fill(portal, Name="Managed", Host_URL=rig.scene.cfssl.url, CFSSL_profile="CA", HMAC_Hex_key=PAGE_KEY)
    await dialog(portal).get_by_role("button", name="Add CA").click()
    await expect(line(portal, "Managed")).to_contain_text("Not verified yet")
    await expect(portal.get_by_role("status").first).to_contain_text("Managed is added")


async def test_managing_cas_2_to_trust_the_ca_for_lwm2m_usage_upload_the_ca_certificate_as_a_trusted_certificate(
    rig: Rig, portal: Page
) -> None:
    """ "To trust the CA for LwM2M usage, upload the CA certificate as a trusted certificate." """
    listed = await rig.ask("GET", "/v3/trusted-certificates?service__eq=lwm2m")
    for row in listed["data"]:
        if row["name"] == "Plant Root":
            await rig.ask("DELETE", f"/v3/trusted-certificates/{row['id']}", code=204)
    await portal.goto(CERTIFICATES)
    # Nobody forgets it: the page says which CA is not trusted.
    await expect(portal.locator(".advice").first).to_contain_text("is not trusted for LWM2M yet")
    await portal.get_by_role("link", name="Upload a certificate").click()
    await fill(portal, Name="Plant Root")
    file = rig.service.folder / "plant-root.pem"
    file.write_bytes(rig.scene.ca.pem)
    await portal.locator("input[type=file]").set_input_files(file)
    await expect(dialog(portal).get_by_role("textbox", name="Certificate")).to_have_value(rig.scene.ca.pem.decode())
    await dialog(portal).get_by_label("How will devices use this certificate?").select_option("lwm2m")
    await dialog(portal).get_by_role("button", name="Next").click()
    # Fields and fingerprint stand there before anything is saved.
    await expect(dialog(portal)).to_contain_text("CN=Plant Root")
    await expect(dialog(portal)).to_contain_text("SHA-256")
    await dialog(portal).get_by_role("button", name="Trust it").click()
    await expect(portal.get_by_role("status").first).to_contain_text("Plant Root is trusted")
    await expect(portal.locator(".advice")).to_have_count(0)


async def test_managing_cas_3_activate_your_ca_for_the_service_configurations_it_is_intended_for(
    rig: Rig, portal: Page
) -> None:
    """ "Activate your CA for the Service Configurations it is intended for." """
    managed = await add_cfssl(rig, "Activated")
    await portal.goto(CAS)
    await line(portal, "Activated").get_by_role("link", name="Service configuration of Activated").click()
    await dialog(portal).get_by_role("radio", name="LWM2M").check()
    await dialog(portal).get_by_role("button", name="Create", exact=True).click()
    await expect(line(portal, "Activated")).to_contain_text("LWM2M")
    assert await signs_for(rig, "LWM2M") == managed
    await rig.ask(
        "PUT", "/v3/certificate-issuer-configurations/lwm2m", {"certificate_issuer_id": rig.scene.ids["plant"]}
    )


async def test_managing_cas_4_to_validate_your_ca_configuration_click_the_verify_button_on_the_ca_entry(
    portal: Page,
) -> None:
    """ "To validate your CA configuration, click the Verify button on the CA entry in the list of CAs." """
    await portal.goto(CAS)
    await line(portal, "Plant CA").get_by_role("link", name="Verify").click()
    # What it costs is said before.
    await expect(dialog(portal)).to_contain_text("Costs nothing: CFSSL counts no certificates")
    await dialog(portal).get_by_role("button", name="Verify").click()
    for step in ("Reach", "Authenticate", "Policy", "Chain", "Test certificate"):
        await expect(dialog(portal).get_by_text(step, exact=True)).to_be_visible()
    await expect(dialog(portal).get_by_role("status")).to_contain_text("The CA works")
    await dialog(portal).locator("p").get_by_role("button", name="Close").click()
    await expect(line(portal, "Plant CA")).to_contain_text("Works")


# -- Managing service configurations ------------------------------------------------------------------


async def popup(page: Page, name: str = "Plant CA") -> Locator:
    """The pop-up of this CA."""
    await page.goto(CAS)
    await line(page, name).get_by_role("link", name=f"Service configuration of {name}").click()
    await expect(dialog(page).get_by_role("heading", level=2)).to_have_text("Select service configuration")
    return dialog(page)


async def test_services_1_in_the_service_configuration_column_find_the_row_of_the_certificate_authority(
    portal: Page,
) -> None:
    """ "In the Service configuration column, find the row corresponding to the Certificate Authority to be used." """
    await portal.goto(CAS)
    await expect(portal.get_by_role("columnheader", name="Service configuration")).to_be_visible()
    cell = line(portal, "Plant CA").get_by_role("cell").first
    await expect(cell).to_contain_text("customer.dlms")


async def test_services_2_click_on_an_existing_service_configuration_or_on_the_action_icon_in_that_row(
    portal: Page,
) -> None:
    """ "Click on an existing service configuration (or click on the action icon) in that row to launch the Select
    service configuration popup." """
    await popup(portal)
    await portal.goto(CAS)
    await line(portal, "Plant CA").get_by_role("link", name="customer.dlms").click()
    await expect(dialog(portal).get_by_role("heading", level=2)).to_have_text("Select service configuration")


async def test_services_3_enter_the_name_of_a_new_service_configuration(portal: Page) -> None:
    """ "Enter the name of a new Service Configuration." """
    shown = await popup(portal)
    await shown.get_by_label("Name of a new service configuration").fill("customer.wisun")
    await expect(shown.get_by_label("Name of a new service configuration")).to_have_value("customer.wisun")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lwm2m", "the name lwm2m is reserved"),
        ("mbed.x", "names that begin with mbed. are reserved"),
        ("two words", "1 to 100 letters, digits, dots, underscores and hyphens"),
        ("customer.dlms", "is there already"),
    ],
)
async def test_services_3_a_name_that_cannot_be_is_told_at_the_field(portal: Page, name: str, problem: str) -> None:
    shown = await popup(portal)
    await shown.get_by_label("Name of a new service configuration").fill(name)
    await shown.get_by_role("button", name="Create the service configuration").click()
    await expect(shown.locator(".problem")).to_contain_text(problem)
    await expect(shown.get_by_label("Name of a new service configuration")).to_be_focused()


async def test_services_4_click_the_plus_button_to_create_the_service_configuration(rig: Rig, portal: Page) -> None:
    """ "Click the + button to create the Service Configuration." """
    shown = await popup(portal)
    await shown.get_by_label("Name of a new service configuration").fill("customer.plus")
    await shown.get_by_role("button", name="Create the service configuration").click()
    await expect(shown.get_by_role("radio", name="customer.plus")).to_be_checked()
    assert await signs_for(rig, "customer.plus") is None


async def test_services_5_click_create_to_confirm_and_close_the_popup_window(rig: Rig, portal: Page) -> None:
    """ "Click Create to confirm and close the popup window." """
    shown = await popup(portal)
    await shown.get_by_label("Name of a new service configuration").fill("customer.wisun")
    await shown.get_by_role("button", name="Create the service configuration").click()
    await shown.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog(portal)).to_have_count(0)
    await expect(line(portal, "Plant CA")).to_contain_text("customer.wisun")
    assert await signs_for(rig, "customer.wisun") == rig.scene.ids["plant"]


async def test_services_6_alternatively_select_an_existing_service_configuration(rig: Rig, portal: Page) -> None:
    """ "Alternatively, select an existing Service Configuration. An existing configuration will be moved onto the
    selected Certificate Authority." """
    shown = await popup(portal, "Harbour CA")
    # Its reach is named before: at least the devices that came by the scene hold certificates of Plant CA.
    reach = re.compile(r"Plant CA signs for it now\. (?:[3-9]|\d{2,}) devices will renew from Harbour CA\.")
    await expect(shown.get_by_text(reach)).to_be_visible()
    # The button keeps the word of the page; what it will do stands above it.
    button = shown.get_by_role("button", name="Create", exact=True)
    await shown.get_by_role("radio", name="LWM2M").check()
    await expect(button).to_have_accessible_description(
        re.compile(r"^Create moves 'LWM2M' from Plant CA to Harbour CA: \d+ devices will renew from Harbour CA\.$")
    )
    await shown.get_by_label("Name of a new service configuration").fill("customer.new")
    await expect(button).to_have_accessible_description("Create makes 'customer.new': Harbour CA will sign for it.")
    await shown.get_by_label("Name of a new service configuration").fill("")
    await shown.get_by_role("radio", name="customer.dlms").check()
    await expect(button).to_have_accessible_description(
        "Create moves 'customer.dlms' from Plant CA to Harbour CA: no device holds a certificate of it yet."
    )
    await button.click()
    await expect(dialog(portal)).to_have_count(0)
    await expect(line(portal, "Harbour CA")).to_contain_text("customer.dlms")
    assert await signs_for(rig, "customer.dlms") == rig.scene.ids["away"]
    back = await popup(portal)
    await back.get_by_role("radio", name="customer.dlms").check()
    await back.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog(portal)).to_have_count(0)
    await expect(line(portal, "Plant CA")).to_contain_text("customer.dlms")


async def test_a_service_of_ones_own_is_removed_where_it_was_made(rig: Rig, portal: Page) -> None:
    shown = await popup(portal)
    await shown.get_by_label("Name of a new service configuration").fill("customer.gone")
    await shown.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog(portal)).to_have_count(0)
    await expect(line(portal, "Plant CA")).to_contain_text("customer.gone")
    again = await popup(portal)
    # What follows is asked before; LWM2M cannot be removed.
    portal.on("dialog", lambda question: question.accept())
    await expect(again.get_by_role("button", name="Remove LWM2M")).to_have_count(0)
    await again.get_by_role("button", name="Remove customer.gone").click()
    await expect(portal.get_by_role("status").first).to_contain_text("removed")
    assert await signs_for(rig, "customer.gone") is None


async def test_back_to_the_own_ca(rig: Rig, portal: Page) -> None:
    """The way back is the same pop-up, in the line of the embedded CA."""
    shown = await popup(portal, "Embedded CA")
    await shown.get_by_role("radio", name="LWM2M").check()
    await shown.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog(portal)).to_have_count(0)
    await expect(line(portal, "Embedded CA")).to_contain_text("LWM2M")
    assert await signs_for(rig, "LWM2M") is None
    await rig.ask(
        "PUT", "/v3/certificate-issuer-configurations/lwm2m", {"certificate_issuer_id": rig.scene.ids["plant"]}
    )


async def test_delete_is_refused_while_active_and_says_why(rig: Rig, portal: Page) -> None:
    await portal.goto(CAS)
    await line(portal, "Plant CA").get_by_role("link", name="Delete").click()
    await expect(dialog(portal).get_by_role("alert")).to_contain_text("cannot be deleted while it is active")
    await add_cfssl(rig, "Superfluous")
    await portal.goto(CAS)
    await line(portal, "Superfluous").get_by_role("link", name="Delete").click()
    await dialog(portal).get_by_role("button", name="Delete").click()
    await expect(portal.get_by_role("status").first).to_contain_text("Superfluous is deleted")
    await expect(line(portal, "Superfluous")).to_have_count(0)


# -- Configuring CFSSL_AUTH as CA ---------------------------------------------------------------------


async def test_cfssl_1_create_the_ca(portal: Page) -> None:
    """ "Create the CA: In the Device identity tab, select Certificates > Actions > Manage CAs and click Add CA." """
    await portal.get_by_role("navigation").get_by_role("link", name="Device identity").click()
    await portal.get_by_role("navigation").get_by_role("link", name="Certificates").click()
    await portal.get_by_role("link", name="Manage CAs").click()
    await portal.get_by_role("link", name="Add CA").click()
    await expect(dialog(portal).get_by_role("heading", level=2)).to_have_text("Add CA")


async def test_cfssl_2_select_issuer_type_cfssl_auth_and_enter_the_following_information(
    rig: Rig, portal: Page
) -> None:
    """ "Select Issuer Type CFSSL_AUTH and enter the following information: Host URL, (Optional) CFSSL profile,
    (Optional) CFSSL label, HMAC Hex key." """
    await portal.goto(CAS)
    await portal.get_by_role("link", name="Add CA").click()
    # The issuer type comes first, and alone.
    await expect(dialog(portal).locator("input:visible, textarea:visible")).to_have_count(0)
    await dialog(portal).get_by_label("Issuer type").select_option(label="CFSSL_AUTH")
    labels = dialog(portal).locator(".field:visible > label")
    await expect(labels).to_have_text(
        [
            "Issuer type",
            "Name",
            "Host URL",
            "CFSSL profile optional",
            "CFSSL label optional",
            "HMAC Hex key",
            "Description optional",
        ]
    )
    await fill(portal, Name="By the page", Host_URL=rig.scene.cfssl.url, CFSSL_profile="CA", HMAC_Hex_key=PAGE_KEY[:-1])
    await dialog(portal).get_by_role("button", name="Add CA").click()
    # The field and the rule; what was typed stays, and never came back from the server.
    await expect(dialog(portal).locator(".problem")).to_have_text(
        "HMAC Hex key: even number of hexadecimal characters, you gave 31"
    )
    await expect(dialog(portal).get_by_label("HMAC Hex key")).to_have_value(PAGE_KEY[:-1])
    await fill(portal, HMAC_Hex_key=PAGE_KEY)
    await dialog(portal).get_by_role("button", name="Add CA").click()
    await expect(line(portal, "By the page")).to_contain_text("CFSSL_AUTH")


async def test_what_a_ca_refuses_is_told_by_the_label_of_its_field(rig: Rig, portal: Page) -> None:
    await portal.goto(CAS)
    await portal.get_by_role("link", name="Add CA").click()
    await dialog(portal).get_by_label("Issuer type").select_option("CFSSL_AUTH")
    await fill(portal, Name="Mistyped", Host_URL=rig.scene.cfssl.url, CFSSL_profile="CA", HMAC_Hex_key="ab" * 16)
    await dialog(portal).get_by_role("button", name="Add CA").click()
    await line(portal, "Mistyped").get_by_role("link", name="Verify").click()
    await dialog(portal).get_by_role("button", name="Verify").click()
    await expect(dialog(portal).get_by_role("status")).to_contain_text("'HMAC Hex key' is not the auth_key")
    await expect(dialog(portal)).not_to_contain_text("hmac_hex_key")
    await dialog(portal).locator("p").get_by_role("button", name="Close").click()
    await expect(line(portal, "Mistyped")).to_contain_text("'HMAC Hex key' is not the auth_key")
    await line(portal, "Mistyped").get_by_role("link", name="Delete").click()
    await dialog(portal).get_by_role("button", name="Delete").click()
    await expect(line(portal, "Mistyped")).to_have_count(0)


# -- Setting Global Sign as an external CA ---------------------------------------------------------------

FIELDS = {
    "access key": ("Access key", "api_key", "The access key received from Global Sign."),
    "API secret": ("API secret", "api_secret", "The API secret received from Global Sign."),
    "Client certificate": (
        "Client certificate",
        "client_certificate",
        "The CA certificate received from Global Sign.",
    ),
    "Private key": ("Private key", "private_key", "The private key that was generated."),
    "Passphrase": (
        "Passphrase",
        "passphrase",
        "The passphrase that was used for the private key encryption, if it was encrypted.",
    ),
}


async def global_sign(page: Page) -> Locator:
    """ "First click Manage CAs and then Add CA. Select Global Sign as the issuer type" """
    await page.goto(CERTIFICATES)
    await page.get_by_role("link", name="Manage CAs").click()
    await page.get_by_role("link", name="Add CA").click()
    await dialog(page).get_by_label("Issuer type").select_option(label="Global Sign")
    await dialog(page).get_by_label("Passphrase").wait_for()
    return dialog(page)


@pytest.mark.parametrize("name", FIELDS, ids=[f"{name}: {sentence}" for name, (_, _, sentence) in FIELDS.items()])
async def test_global_sign_asks_for(portal: Page, name: str) -> None:
    """ "Select Global Sign as the issuer type and enter the following information": one test for each of the five.

    All of them are secrets: none is prefilled, and all but the passphrase are required.
    """
    label, _, _ = FIELDS[name]
    form = await global_sign(portal)
    asked = form.get_by_role("textbox", name=label).or_(form.get_by_label(label, exact=True)).first
    await expect(asked).to_be_visible()
    await expect(asked).to_have_value("")
    required = await asked.get_attribute("aria-required")
    assert required == (None if name == "Passphrase" else "true")


async def test_global_sign_is_added_with_the_five_fields_verified_and_never_read_again(rig: Rig, portal: Page) -> None:
    form = await global_sign(portal)
    atlas = rig.scene.atlas
    await form.get_by_label("Name").fill("GlobalSign account")
    for _, key, _ in FIELDS.values():
        await form.locator(f"[name='issuer_credentials.{key}']").fill(str(atlas.credentials[key]))
    await form.get_by_text("Further settings").click()
    await form.get_by_label("Base URL").fill(str(atlas.attributes["base_url"]))
    await form.get_by_role("textbox", name="TLS roots").fill(str(atlas.attributes["tls_roots"]))
    await form.get_by_role("button", name="Add CA").click()
    await expect(line(portal, "GlobalSign account")).to_contain_text("not trusted")
    # Said before anything is spent.
    await line(portal, "GlobalSign account").get_by_role("link", name="Verify").click()
    await expect(dialog(portal)).to_contain_text("not trusted for LWM2M")
    await expect(dialog(portal)).to_contain_text("certificates left, asked")
    await portal.keyboard.press("Escape")
    # The one-click remedy.
    await line(portal, "GlobalSign account").get_by_role("link", name="Trust its certificate").click()
    await expect(dialog(portal)).to_contain_text("SHA-256")
    await dialog(portal).get_by_role("button", name="Trust for LWM2M").click()
    await expect(line(portal, "GlobalSign account")).to_contain_text("trusted for LWM2M")
    await line(portal, "GlobalSign account").get_by_role("link", name="Verify").click()
    await expect(dialog(portal)).to_contain_text("Costs one certificate of the account's quota")
    await dialog(portal).get_by_role("button", name="Verify").click()
    await expect(dialog(portal).get_by_role("status")).to_contain_text("The CA works")
    await portal.goto(CAS)
    await expect(line(portal, "GlobalSign account")).to_contain_text("certificates left, asked")
    await line(portal, "GlobalSign account").get_by_role("link", name="Edit").click()
    await dialog(portal).get_by_label("API secret").wait_for()
    await expect(dialog(portal).get_by_label("API secret")).to_have_value("")
    content = await portal.content()
    assert not any(secret in content for secret in atlas.secrets)


# -- the guide of a new account -----------------------------------------------------------------------


async def test_four_steps_lead_a_new_account_to_a_ca_of_its_own(rig: Rig) -> None:
    """Each step of the guide is offered when its turn has come, and says that it is done."""
    async with rig.page(CAS, who="newcomer") as page:
        states = page.locator(".steps li > .pill")
        await expect(states).to_have_text(["next", "not yet", "not yet", "not yet"])
        await page.get_by_role("link", name="Add CA").click()
        await dialog(page).get_by_label("Issuer type").select_option("CFSSL_AUTH")
        await fill(page, Name="First", Host_URL=rig.scene.cfssl.url, CFSSL_profile="CA", HMAC_Hex_key=PAGE_KEY)
        await dialog(page).get_by_role("button", name="Add CA").click()
        await expect(states).to_have_text(["done", "next", "not yet", "not yet"])
        # Whoever verifies first is asked to trust it, and comes back to the verification.
        await line(page, "First").get_by_role("link", name="Verify").click()
        await dialog(page).get_by_role("link", name="Trust its certificate").click()
        await dialog(page).get_by_role("button", name="Trust for LWM2M").click()
        await expect(dialog(page).get_by_role("heading", level=2)).to_have_text("Verify First")
        await expect(dialog(page)).to_contain_text("First is trusted for LWM2M")
        await expect(dialog(page)).not_to_contain_text("is not trusted")
        await dialog(page).get_by_role("button", name="Verify").click()
        await expect(dialog(page).get_by_role("status")).to_contain_text("The CA works")
        await dialog(page).locator("p").get_by_role("button", name="Close").click()
        await expect(states).to_have_text(["done", "done", "done", "next"])
        await page.get_by_role("link", name="Choose").click()
        await dialog(page).get_by_role("radio", name="LWM2M").check()
        await dialog(page).get_by_role("button", name="Create", exact=True).click()
        await expect(line(page, "First")).to_contain_text("LWM2M")
        await expect(states).to_have_count(0)
    # As it was: other tests look at an account where nothing is.
    async with httpx.AsyncClient(
        base_url=rig.url, headers={"Authorization": f"Bearer {rig.scene.newcomer_key}"}, trust_env=False
    ) as client:
        await client.put("/v3/certificate-issuer-configurations/lwm2m", json={"certificate_issuer_id": None})
        for path in ("/v3/certificate-issuers", "/v3/trusted-certificates"):
            for row in (await client.get(path)).json()["data"]:
                if row["name"] == "First":
                    assert (await client.delete(f"{path}/{row['id']}")).status_code == 204
