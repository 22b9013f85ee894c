"""The portal as the page "Integrating with a third-party CA" tells it: each numbered step is one test.

A new account walks the way, in the order of the page: what one test made is there for the next.
"""

import re

import pytest
from playwright.async_api import Locator, Page, expect

from tests.console.rig import Rig
from tests.console.views import CAS, CERTIFICATES, dialog, fill, line
from tests.issuers.peers.cfssl import PAGE_KEY


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


async def test_portal_2_navigate_to_device_identity(page: Page) -> None:
    """ "Navigate to Device Identity." """
    await page.get_by_role("navigation", name="Views").get_by_role("link", name="Device identity").click()
    await expect(page.get_by_role("main")).to_contain_text("Device identity")


async def test_portal_3_select_the_certificates_view(page: Page) -> None:
    """ "Select the Certificates view." """
    await page.get_by_role("navigation", name="Views").get_by_role("link", name="Certificates").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Certificates")
    await expect(page).to_have_url(CERTIFICATES)


async def test_portal_4_select_manage_cas_from_the_available_page_actions_at_the_top_right_corner(
    page: Page,
) -> None:
    """ "Select Manage CAs from the available page actions at the top right corner. This takes you to the Certificate
    Authorities view." """
    await page.goto(CERTIFICATES)
    action = page.get_by_role("link", name="Manage CAs")
    box, viewport = await action.bounding_box(), page.viewport_size
    assert box
    assert viewport
    assert box["x"] > viewport["width"] / 2
    assert box["y"] < viewport["height"] / 4
    await action.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Certificate Authorities")


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


async def test_managing_cas_1_to_create_the_ca_click_add_ca(rig: Rig, page: Page) -> None:
    """ "To create the CA click Add CA." """
    await page.goto(CAS)
    await page.get_by_role("link", name="Add CA").click()
    await dialog(page).get_by_label("Issuer type").select_option("CFSSL_AUTH")
    await fill(page, Name="Managed", Host_URL=rig.scene.cfssl.url, CFSSL_profile="CA", HMAC_Hex_key=PAGE_KEY)
    await dialog(page).get_by_role("button", name="Add CA").click()
    await expect(line(page, "Managed")).to_contain_text("Not verified yet")
    await expect(page.get_by_role("status").first).to_contain_text("Managed is added")


async def test_managing_cas_2_to_trust_the_ca_for_lwm2m_usage_upload_the_ca_certificate_as_a_trusted_certificate(
    rig: Rig, page: Page
) -> None:
    """ "To trust the CA for LwM2M usage, upload the CA certificate as a trusted certificate." """
    listed = await rig.ask("GET", "/v3/trusted-certificates?service__eq=lwm2m")
    for row in listed["data"]:
        if row["name"] == "Plant Root":
            await rig.ask("DELETE", f"/v3/trusted-certificates/{row['id']}", code=204)
    await page.goto(CERTIFICATES)
    # Nobody forgets it: the page says which CA is not trusted.
    await expect(page.locator(".advice").first).to_contain_text("is not trusted for LWM2M yet")
    await page.get_by_role("link", name="Upload a certificate").click()
    await fill(page, Name="Plant Root")
    file = rig.service.folder / "plant-root.pem"
    file.write_bytes(rig.scene.ca.pem)
    await page.locator("input[type=file]").set_input_files(file)
    await expect(dialog(page).get_by_role("textbox", name="Certificate")).to_have_value(rig.scene.ca.pem.decode())
    await dialog(page).get_by_label("How will devices use this certificate?").select_option("lwm2m")
    await dialog(page).get_by_role("button", name="Next").click()
    # Fields and fingerprint stand there before anything is saved.
    await expect(dialog(page)).to_contain_text("CN=Plant Root")
    await expect(dialog(page)).to_contain_text("SHA-256")
    await dialog(page).get_by_role("button", name="Trust it").click()
    await expect(page.get_by_role("status").first).to_contain_text("Plant Root is trusted")
    await expect(page.locator(".advice")).to_have_count(0)


async def test_managing_cas_3_activate_your_ca_for_the_service_configurations_it_is_intended_for(
    rig: Rig, page: Page
) -> None:
    """ "Activate your CA for the Service Configurations it is intended for." """
    managed = await add_cfssl(rig, "Activated")
    await page.goto(CAS)
    await line(page, "Activated").get_by_role("link", name="Service configuration of Activated").click()
    await dialog(page).get_by_role("radio", name="LWM2M").check()
    await dialog(page).get_by_role("button", name="Create", exact=True).click()
    await expect(line(page, "Activated")).to_contain_text("LWM2M")
    assert await signs_for(rig, "LWM2M") == managed
    await rig.ask(
        "PUT", "/v3/certificate-issuer-configurations/lwm2m", {"certificate_issuer_id": rig.scene.ids["plant"]}
    )


async def test_managing_cas_4_to_validate_your_ca_configuration_click_the_verify_button_on_the_ca_entry(
    page: Page,
) -> None:
    """ "To validate your CA configuration, click the Verify button on the CA entry in the list of CAs." """
    await page.goto(CAS)
    await line(page, "Plant CA").get_by_role("link", name="Verify").click()
    # What it costs is said before.
    await expect(dialog(page)).to_contain_text("Costs nothing: CFSSL counts no certificates")
    await dialog(page).get_by_role("button", name="Verify").click()
    for step in ("Reach", "Authenticate", "Policy", "Chain", "Test certificate"):
        await expect(dialog(page).get_by_text(step, exact=True)).to_be_visible()
    await expect(dialog(page).get_by_role("status")).to_contain_text("The CA works")
    await dialog(page).locator("p").get_by_role("button", name="Close").click()
    await expect(line(page, "Plant CA")).to_contain_text("Works")


# -- Managing service configurations ------------------------------------------------------------------


async def popup(page: Page, name: str = "Plant CA") -> Locator:
    """The pop-up of this CA."""
    await page.goto(CAS)
    await line(page, name).get_by_role("link", name=f"Service configuration of {name}").click()
    await expect(dialog(page).get_by_role("heading", level=2)).to_have_text("Select service configuration")
    return dialog(page)


async def test_services_1_in_the_service_configuration_column_find_the_row_of_the_certificate_authority(
    page: Page,
) -> None:
    """ "In the Service configuration column, find the row corresponding to the Certificate Authority to be used." """
    await page.goto(CAS)
    await expect(page.get_by_role("columnheader", name="Service configuration")).to_be_visible()
    cell = line(page, "Plant CA").get_by_role("cell").first
    await expect(cell).to_contain_text("customer.dlms")


async def test_services_2_click_on_an_existing_service_configuration_or_on_the_action_icon_in_that_row(
    page: Page,
) -> None:
    """ "Click on an existing service configuration (or click on the action icon) in that row to launch the Select
    service configuration popup." """
    await popup(page)
    await page.goto(CAS)
    await line(page, "Plant CA").get_by_role("link", name="customer.dlms").click()
    await expect(dialog(page).get_by_role("heading", level=2)).to_have_text("Select service configuration")


async def test_services_3_enter_the_name_of_a_new_service_configuration(page: Page) -> None:
    """ "Enter the name of a new Service Configuration." """
    shown = await popup(page)
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
async def test_services_3_a_name_that_cannot_be_is_told_at_the_field(page: Page, name: str, problem: str) -> None:
    shown = await popup(page)
    await shown.get_by_label("Name of a new service configuration").fill(name)
    await shown.get_by_role("button", name="Create the service configuration").click()
    await expect(shown.locator(".problem")).to_contain_text(problem)
    await expect(shown.get_by_label("Name of a new service configuration")).to_be_focused()


async def test_services_4_click_the_plus_button_to_create_the_service_configuration(rig: Rig, page: Page) -> None:
    """ "Click the + button to create the Service Configuration." """
    shown = await popup(page)
    await shown.get_by_label("Name of a new service configuration").fill("customer.plus")
    await shown.get_by_role("button", name="Create the service configuration").click()
    await expect(shown.get_by_role("radio", name="customer.plus")).to_be_checked()
    assert await signs_for(rig, "customer.plus") is None


async def test_services_5_click_create_to_confirm_and_close_the_popup_window(rig: Rig, page: Page) -> None:
    """ "Click Create to confirm and close the popup window." """
    shown = await popup(page)
    await shown.get_by_label("Name of a new service configuration").fill("customer.wisun")
    await shown.get_by_role("button", name="Create the service configuration").click()
    await shown.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog(page)).to_have_count(0)
    await expect(line(page, "Plant CA")).to_contain_text("customer.wisun")
    assert await signs_for(rig, "customer.wisun") == rig.scene.ids["plant"]


async def test_services_6_alternatively_select_an_existing_service_configuration(rig: Rig, page: Page) -> None:
    """ "Alternatively, select an existing Service Configuration. An existing configuration will be moved onto the
    selected Certificate Authority." """
    shown = await popup(page, "Harbour CA")
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
    await expect(dialog(page)).to_have_count(0)
    await expect(line(page, "Harbour CA")).to_contain_text("customer.dlms")
    assert await signs_for(rig, "customer.dlms") == rig.scene.ids["away"]
    back = await popup(page)
    await back.get_by_role("radio", name="customer.dlms").check()
    await back.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog(page)).to_have_count(0)
    await expect(line(page, "Plant CA")).to_contain_text("customer.dlms")


async def test_a_service_of_ones_own_is_removed_where_it_was_made(rig: Rig, page: Page) -> None:
    shown = await popup(page)
    await shown.get_by_label("Name of a new service configuration").fill("customer.gone")
    await shown.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog(page)).to_have_count(0)
    await expect(line(page, "Plant CA")).to_contain_text("customer.gone")
    again = await popup(page)
    # What follows is asked before; LWM2M cannot be removed.
    page.on("dialog", lambda question: question.accept())
    await expect(again.get_by_role("button", name="Remove LWM2M")).to_have_count(0)
    await again.get_by_role("button", name="Remove customer.gone").click()
    await expect(page.get_by_role("status").first).to_contain_text("removed")
    assert await signs_for(rig, "customer.gone") is None


async def test_back_to_the_own_ca(rig: Rig, page: Page) -> None:
    """The way back is the same pop-up, in the line of the embedded CA."""
    shown = await popup(page, "Embedded CA")
    await shown.get_by_role("radio", name="LWM2M").check()
    await shown.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog(page)).to_have_count(0)
    await expect(line(page, "Embedded CA")).to_contain_text("LWM2M")
    assert await signs_for(rig, "LWM2M") is None
    await rig.ask(
        "PUT", "/v3/certificate-issuer-configurations/lwm2m", {"certificate_issuer_id": rig.scene.ids["plant"]}
    )


async def test_delete_is_refused_while_active_and_says_why(rig: Rig, page: Page) -> None:
    await page.goto(CAS)
    await line(page, "Plant CA").get_by_role("link", name="Delete").click()
    await expect(dialog(page).get_by_role("alert")).to_contain_text("cannot be deleted while it is active")
    await add_cfssl(rig, "Superfluous")
    await page.goto(CAS)
    await line(page, "Superfluous").get_by_role("link", name="Delete").click()
    await dialog(page).get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("status").first).to_contain_text("Superfluous is deleted")
    await expect(line(page, "Superfluous")).to_have_count(0)
