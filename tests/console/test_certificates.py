"""Device identity › Certificates: trusted, developer and issued ones, as an operator handles them."""

import csv
import io
import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from playwright.async_api import Page, expect

from tests.console.rig import Rig
from tests.console.views import CERTIFICATES, dialog
from tests.pki import make_certificate, make_factory_ca, pem_chain


async def upload(page: Page, name: str, pem: str, service: str = "bootstrap") -> None:
    """The upload form filled in, up to what it shows before saving."""
    await page.goto(CERTIFICATES)
    await page.get_by_role("link", name="Upload a certificate").click()
    await dialog(page).get_by_label("Name").fill(name)
    await dialog(page).get_by_role("textbox", name="Certificate").fill(pem)
    await dialog(page).get_by_label("How will devices use this certificate?").select_option(service)
    await dialog(page).get_by_role("button", name="Next").click()


async def trusted(rig: Rig, name: str) -> dict[str, object] | None:
    """What the API says of a trusted certificate."""
    found = (await rig.ask("GET", f"/v3/trusted-certificates?name__eq={name}"))["data"]
    return dict(found[0]) if found else None


async def test_of_a_chain_the_lowest_ca_is_shown_and_trusted(rig: Rig, page: Page) -> None:
    root = make_factory_ca("Vaasa Root")
    below = make_factory_ca("Vaasa Line 3", issuer=root)
    await upload(page, "Vaasa", pem_chain(root, below).decode())
    await expect(dialog(page)).to_contain_text("CN=Vaasa Line 3")
    await expect(dialog(page)).to_contain_text("1 above it in the file, not trusted by themselves")
    assert await trusted(rig, "Vaasa") is None
    await dialog(page).get_by_role("button", name="Trust it").click()
    await expect(page.get_by_role("row", name="Vaasa")).to_contain_text("Active")
    row = await trusted(rig, "Vaasa")
    assert row
    assert "Vaasa Line 3" in str(row["subject"])


async def test_a_der_file_is_read_by_the_browser_as_pem(rig: Rig, page: Page) -> None:
    ca = make_factory_ca("Kemi Factory")
    file = rig.service.folder / "kemi.der"
    file.write_bytes(ca.der)
    await page.goto(CERTIFICATES)
    await page.get_by_role("link", name="Upload a certificate").click()
    await page.locator("input[type=file]").set_input_files(file)
    field = dialog(page).get_by_role("textbox", name="Certificate")
    await expect(field).to_have_value(re.compile("-----BEGIN CERTIFICATE-----"))
    assert x509.load_pem_x509_certificate((await field.input_value()).encode()) == ca.certificate


async def test_a_certificate_that_is_no_ca_is_told_before_it_is_saved(page: Page) -> None:
    leaf = make_certificate("one device")
    await upload(page, "One device", leaf.pem.decode())
    await expect(dialog(page)).to_contain_text("It lets in the one device that has this very certificate")


async def test_a_private_key_in_an_upload_is_refused_and_never_shown(page: Page) -> None:
    ca = make_factory_ca("Careless")
    await upload(page, "Careless", (ca.pem + ca.key_pem).decode())
    await expect(dialog(page).locator(".problem")).to_contain_text("the file holds a private key")


async def test_how_many_devices_a_denial_concerns_is_said_before(rig: Rig, page: Page) -> None:
    factory = rig.scene.ids["factory"]
    row = await rig.ask("GET", f"/v3/trusted-certificates/{factory}")
    assert row["name"] == "Oulu factory"
    for action in ("Deny", "Delete"):
        await page.goto(f"/device-identity/certificates/trusted/{factory}")
        await page.get_by_role("link", name=action, exact=True).click()
        await expect(dialog(page)).to_contain_text(re.compile("[1-9][0-9]* devices came with it last"))
    await dialog(page).get_by_role("link", name="which").click()
    await expect(page.get_by_role("row", name="pump-0001")).to_be_visible()
    # A root of issued certificates: which CAs stand on it.
    await page.goto("/device-identity/certificates?subject__like=Plant+Root")
    await page.get_by_role("row", name="Plant Root").get_by_role("link", name="Deny").click()
    await expect(dialog(page)).to_contain_text("Plant CA")


async def test_a_factory_is_denied_after_its_reach_was_told_and_activated_again(rig: Rig, page: Page) -> None:
    await upload(page, "Rauma", make_factory_ca("Rauma Factory").pem.decode())
    await dialog(page).get_by_role("button", name="Trust it").click()
    await page.get_by_role("row", name="Rauma").get_by_role("link", name="Deny").click()
    await expect(dialog(page)).to_contain_text("Every device with a certificate of this factory is refused")
    await dialog(page).get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("row", name="Rauma")).to_contain_text("Denied")
    row = await trusted(rig, "Rauma")
    assert row
    assert row["status"] == "INACTIVE"
    await page.get_by_role("row", name="Rauma").get_by_role("button", name="Activate").click()
    await expect(page.get_by_role("row", name="Rauma")).to_contain_text("Active")


async def test_the_key_of_a_developer_certificate_is_shown_once(rig: Rig, page: Page) -> None:
    await page.goto(CERTIFICATES)
    await page.get_by_role("link", name="Developer certificate").click()
    await dialog(page).get_by_label("Name").fill("desk")
    await dialog(page).get_by_role("button", name="Make it").click()
    async with page.expect_download() as waiting:
        await dialog(page).get_by_role("button", name="device-key.pem").click()
    file = rig.service.folder / "device-key.pem"
    await (await waiting.value).save_as(file)
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    await dialog(page).get_by_role("button", name="Done").click()
    await expect(page.get_by_role("row", name="desk")).to_contain_text("developer certificate")
    assert "PRIVATE KEY" not in await page.content()
    row = await trusted(rig, "desk")
    assert row
    certificate = x509.load_pem_x509_certificate(str(row["certificate"]).encode())
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert certificate.public_key().public_bytes(*encoding) == key.public_key().public_bytes(*encoding)


async def test_issued_certificates_are_found_by_name_serial_number_and_ca(rig: Rig, page: Page) -> None:
    issued = f"{CERTIFICATES}/issued"
    await page.goto(issued)
    await page.keyboard.press("/")
    await page.keyboard.type("pump-0002")
    await page.keyboard.press("Enter")
    # The filters live in the URL and are the API's.
    await expect(page).to_have_url(re.compile("endpoint_name__like=pump-0002"))
    names = page.get_by_role("rowheader")
    await expect(names).to_have_text(["pump-0002"])
    (found,) = (await rig.ask("GET", "/v1/certificates?endpoint_name__eq=pump-0002"))["data"]
    await page.goto(f"{issued}?serial__eq={found['serial']}")
    await expect(names).to_have_text(["pump-0002"])
    await page.goto(issued)
    await page.get_by_role("combobox", name="CA").select_option("Plant CA")
    await page.get_by_role("button", name="Search").click()
    ours = await rig.ask("GET", f"/v1/certificates?certificate_issuer_id__eq={rig.scene.ids['plant']}")
    await expect(names).to_have_count(len(ours["data"]))
    await page.get_by_role("link", name="Ends within 30 days").click()
    await expect(page.get_by_role("heading", name="Nothing fits")).to_be_visible()
    # What ends next would come first.
    await expect(page).to_have_url(re.compile("sort=not_after&order=ASC"))


async def test_a_certificate_that_no_device_holds_says_why_and_what_comes_next(rig: Rig, page: Page) -> None:
    (lost,) = (await rig.ask("GET", "/v1/certificates?endpoint_name__eq=valve-1"))["data"]
    assert lost["state"] in ("issued", "abandoned")
    await page.goto(f"{CERTIFICATES}/issued/{lost['id']}")
    await expect(page.get_by_role("heading", name="The chain that was issued")).to_be_visible()
    # Its bootstrap failed; that it is given up, the server finds a little later.
    next_step = re.compile(
        "not yet confirmed by the device: it gets it|at its next bootstrap it gets another certificate"
    )
    await expect(page.get_by_text(next_step)).to_be_visible()
    (held,) = (await rig.ask("GET", "/v1/certificates?endpoint_name__eq=pump-0002"))["data"]
    await page.goto(f"{CERTIFICATES}/issued/{held['id']}")
    await expect(page.get_by_role("heading", name="The chain as the device holds it")).to_be_visible()


async def test_a_chain_is_downloaded_as_the_device_holds_it(rig: Rig, page: Page) -> None:
    await page.goto(f"{CERTIFICATES}/issued/{rig.scene.ids['certificate']}")
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Download PEM").click()
    file = Path(rig.service.folder) / "chain.pem"
    await (await waiting.value).save_as(file)
    whole = await rig.ask("GET", f"/v1/certificates/{rig.scene.ids['certificate']}")
    assert file.read_text() == whole["chain"]


async def test_a_certificate_is_revoked_with_its_reason_and_then_no_more(rig: Rig, page: Page) -> None:
    listed = (await rig.ask("GET", "/v1/certificates?endpoint_name__like=meter"))["data"]
    found = next(row for row in listed if row["revoked_at"] is None)
    audit = "/v1/audit?order=DESC&subject_kind__eq=certificate"
    before = {row["id"] for row in (await rig.ask("GET", audit))["data"]}
    at = f"{CERTIFICATES}/issued/{found['id']}"
    await page.goto(at)
    await page.get_by_role("link", name="Revoke").click()
    await dialog(page).get_by_label("Reason").select_option(label="The device is out of use")
    await dialog(page).get_by_role("button", name="Revoke").click()
    await expect(page.get_by_role("status").first).to_contain_text("is revoked")
    await expect(page.get_by_role("main")).to_contain_text("cessationOfOperation")
    # An action appears only when it can act.
    await expect(page.get_by_role("link", name="Revoke")).to_have_count(0)
    (entry,) = [row for row in (await rig.ask("GET", audit))["data"] if row["id"] not in before]
    assert entry["actor_kind"] == "console"
    assert "revoked" in entry["action"]


async def test_the_list_comes_as_csv_with_its_filters_and_no_cell_is_a_formula(rig: Rig, page: Page) -> None:
    await page.goto(f"{CERTIFICATES}/issued?endpoint_name__like=pump")
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="CSV").click()
    file = Path(rig.service.folder) / "list.csv"
    await (await waiting.value).save_as(file)
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert {row["endpoint_name"] for row in rows} == {"pump-0001", "pump-0002", "pump-0003"}


async def test_a_reader_sees_everything_and_is_offered_nothing_to_change(rig: Rig) -> None:
    async with rig.page(CERTIFICATES, who="reader") as page:
        await expect(page.get_by_role("row", name="Oulu factory")).to_be_visible()
        for name in ("Upload a certificate", "Developer certificate", "Deny", "Edit", "Delete"):
            await expect(page.get_by_role("link", name=name)).to_have_count(0)
        await page.goto("/device-identity/certificate-authorities")
        for name in ("Add CA", "Verify", "Edit", "Delete"):
            await expect(page.get_by_role("link", name=name)).to_have_count(0)
