"""The guide of a new account on the page of CAs: four steps to a CA of its own."""

import httpx
from playwright.async_api import expect

from tests.console.rig import Rig
from tests.console.views import CAS, dialog, fill, line
from tests.issuers.peers.cfssl import PAGE_KEY


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
