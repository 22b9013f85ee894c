"""The form of each issuer type as the page "Integrating with a third-party CA" tells it."""

import pytest
from playwright.async_api import Locator, Page, expect

from tests.console.rig import Rig
from tests.console.views import CAS, CERTIFICATES, dialog, fill, line
from tests.issuers.peers.cfssl import PAGE_KEY

# -- Configuring CFSSL_AUTH as CA ---------------------------------------------------------------------


async def test_cfssl_1_create_the_ca(page: Page) -> None:
    """ "Create the CA: In the Device identity tab, select Certificates > Actions > Manage CAs and click Add CA." """
    await page.get_by_role("navigation").get_by_role("link", name="Device identity").click()
    await page.get_by_role("navigation").get_by_role("link", name="Certificates").click()
    await page.get_by_role("link", name="Manage CAs").click()
    await page.get_by_role("link", name="Add CA").click()
    await expect(dialog(page).get_by_role("heading", level=2)).to_have_text("Add CA")


async def test_cfssl_2_select_issuer_type_cfssl_auth_and_enter_the_following_information(rig: Rig, page: Page) -> None:
    """ "Select Issuer Type CFSSL_AUTH and enter the following information: Host URL, (Optional) CFSSL profile,
    (Optional) CFSSL label, HMAC Hex key." """
    await page.goto(CAS)
    await page.get_by_role("link", name="Add CA").click()
    # The issuer type comes first, and alone.
    await expect(dialog(page).locator("input:visible, textarea:visible")).to_have_count(0)
    await dialog(page).get_by_label("Issuer type").select_option(label="CFSSL_AUTH")
    labels = dialog(page).locator(".field:visible > label")
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
    await fill(page, Name="By the page", Host_URL=rig.scene.cfssl.url, CFSSL_profile="CA", HMAC_Hex_key=PAGE_KEY[:-1])
    await dialog(page).get_by_role("button", name="Add CA").click()
    # The field and the rule; what was typed stays, and never came back from the server.
    await expect(dialog(page).locator(".problem")).to_have_text(
        "HMAC Hex key: even number of hexadecimal characters, you gave 31"
    )
    await expect(dialog(page).get_by_label("HMAC Hex key")).to_have_value(PAGE_KEY[:-1])
    await fill(page, HMAC_Hex_key=PAGE_KEY)
    await dialog(page).get_by_role("button", name="Add CA").click()
    await expect(line(page, "By the page")).to_contain_text("CFSSL_AUTH")


async def test_what_a_ca_refuses_is_told_by_the_label_of_its_field(rig: Rig, page: Page) -> None:
    await page.goto(CAS)
    await page.get_by_role("link", name="Add CA").click()
    await dialog(page).get_by_label("Issuer type").select_option("CFSSL_AUTH")
    await fill(page, Name="Mistyped", Host_URL=rig.scene.cfssl.url, CFSSL_profile="CA", HMAC_Hex_key="ab" * 16)
    await dialog(page).get_by_role("button", name="Add CA").click()
    await line(page, "Mistyped").get_by_role("link", name="Verify").click()
    await dialog(page).get_by_role("button", name="Verify").click()
    await expect(dialog(page).get_by_role("status")).to_contain_text("'HMAC Hex key' is not the auth_key")
    await expect(dialog(page)).not_to_contain_text("hmac_hex_key")
    await dialog(page).locator("p").get_by_role("button", name="Close").click()
    await expect(line(page, "Mistyped")).to_contain_text("'HMAC Hex key' is not the auth_key")
    await line(page, "Mistyped").get_by_role("link", name="Delete").click()
    await dialog(page).get_by_role("button", name="Delete").click()
    await expect(line(page, "Mistyped")).to_have_count(0)


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
async def test_global_sign_asks_for(page: Page, name: str) -> None:
    """ "Select Global Sign as the issuer type and enter the following information": one test for each of the five.

    All of them are secrets: none is prefilled, and all but the passphrase are required.
    """
    label, _, _ = FIELDS[name]
    form = await global_sign(page)
    asked = form.get_by_role("textbox", name=label).or_(form.get_by_label(label, exact=True)).first
    await expect(asked).to_be_visible()
    await expect(asked).to_have_value("")
    required = await asked.get_attribute("aria-required")
    assert required == (None if name == "Passphrase" else "true")


async def test_global_sign_is_added_with_the_five_fields_verified_and_never_read_again(rig: Rig, page: Page) -> None:
    form = await global_sign(page)
    atlas = rig.scene.atlas
    await form.get_by_label("Name").fill("GlobalSign account")
    for _, key, _ in FIELDS.values():
        await form.locator(f"[name='issuer_credentials.{key}']").fill(str(atlas.credentials[key]))
    await form.get_by_text("Further settings").click()
    await form.get_by_label("Base URL").fill(str(atlas.attributes["base_url"]))
    await form.get_by_role("textbox", name="TLS roots").fill(str(atlas.attributes["tls_roots"]))
    await form.get_by_role("button", name="Add CA").click()
    await expect(line(page, "GlobalSign account")).to_contain_text("not trusted")
    # Said before anything is spent.
    await line(page, "GlobalSign account").get_by_role("link", name="Verify").click()
    await expect(dialog(page)).to_contain_text("not trusted for LWM2M")
    await expect(dialog(page)).to_contain_text("certificates left, asked")
    await page.keyboard.press("Escape")
    # The one-click remedy.
    await line(page, "GlobalSign account").get_by_role("link", name="Trust its certificate").click()
    await expect(dialog(page)).to_contain_text("SHA-256")
    await dialog(page).get_by_role("button", name="Trust for LWM2M").click()
    await expect(line(page, "GlobalSign account")).to_contain_text("trusted for LWM2M")
    await line(page, "GlobalSign account").get_by_role("link", name="Verify").click()
    await expect(dialog(page)).to_contain_text("Costs one certificate of the account's quota")
    await dialog(page).get_by_role("button", name="Verify").click()
    await expect(dialog(page).get_by_role("status")).to_contain_text("The CA works")
    await page.goto(CAS)
    await expect(line(page, "GlobalSign account")).to_contain_text("certificates left, asked")
    await line(page, "GlobalSign account").get_by_role("link", name="Edit").click()
    await dialog(page).get_by_label("API secret").wait_for()
    await expect(dialog(page).get_by_label("API secret")).to_have_value("")
    content = await page.content()
    assert not any(secret in content for secret in atlas.secrets)
