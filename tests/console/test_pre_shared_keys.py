"""Pre-shared keys in the console: added one by one or many, found among many, removed; never shown."""

import re
import secrets
from uuid import uuid4

from playwright.async_api import Page, expect

from tests.console.rig import Rig
from tests.console.views import PRE_SHARED_KEYS, dialog, fill
from tests.integration.service import simulate


async def opened(page: Page, button: str) -> None:
    """One of the dialogs of the page."""
    await page.goto(PRE_SHARED_KEYS)
    await page.get_by_role("main").get_by_role("link", name=button).click()
    await expect(dialog(page)).to_be_visible()


async def test_a_key_is_added_in_the_place_where_one_looks_for_it_and_its_device_bootstraps(
    rig: Rig, page: Page
) -> None:
    name, key = f"gauge-{uuid4().hex[:8]}", secrets.token_hex(16)
    await page.get_by_role("navigation", name="Views").get_by_role("link", name="Pre-shared keys").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Pre-shared keys")
    await page.get_by_role("link", name="Add a key").click()
    await fill(page, Identity=name, Endpoint_name=name, Key=key[:-1])
    await dialog(page).get_by_role("button", name="Add the key").click()
    await expect(dialog(page)).to_contain_text("an even number of hexadecimal characters, 31 characters were given")
    # What was right need not be typed again, the secret neither.
    await expect(dialog(page).get_by_label("Identity")).to_have_value(name)
    await expect(dialog(page).get_by_label("Key", exact=True)).to_have_value(key[:-1])
    await dialog(page).get_by_label("Key", exact=True).fill(key)
    await dialog(page).get_by_role("button", name="Add the key").click()
    await expect(page.get_by_role("status").first).to_contain_text(f"The key of {name} is stored")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))
    await expect(row).to_contain_text("the device comes with it")
    assert key not in await page.content()
    file = rig.service.folder / f"{name}.hex"
    file.write_text(key)
    for _ in range(10):
        code, _, _ = await simulate(
            *("--server", rig.service.server_uri, "--mode", "psk", "--psk-identity", name, "--psk-file", str(file)),
            *("--out", str(rig.service.folder / "devices"), "--handshake-timeout", "5"),
        )
        if code == 0:
            break
    assert code == 0
    # The device and its key lead to each other.
    await row.get_by_role("link", name=name).click()
    await page.get_by_role("row", name=name).get_by_role("link", name=name).click()
    await page.get_by_role("main").get_by_role("link", name="pre-shared key").click()
    await expect(row).to_have_count(1)


async def test_many_keys_are_added_whole_or_not_at_all_and_the_line_at_fault_is_named(rig: Rig, page: Page) -> None:
    stem = f"many-{uuid4().hex[:8]}"
    lines = [f"{stem}-{n}:{secrets.token_hex(16)}:{stem}-{n}" for n in range(60)]
    await opened(page, "Add many")
    area = dialog(page).get_by_role("textbox", name="Lines")
    await area.fill("\n".join([*lines, f"{stem}-x:00:{stem}-x"]))
    await dialog(page).get_by_role("button", name="Add the keys").click()
    await expect(dialog(page)).to_contain_text("line 61: a key has 16 to 64 bytes, 1 were given")
    await expect(area).to_have_value(re.compile(f"^{stem}-0:"))
    file = rig.service.folder / f"{stem}.txt"
    file.write_text("\n".join(lines))
    await dialog(page).locator("input[type=file]").set_input_files(file)
    await dialog(page).get_by_role("button", name="Add the keys").click()
    await expect(page.get_by_role("status").first).to_contain_text("60 keys are stored")
    # Found by a part of the name, page by page.
    await page.get_by_label("Search by endpoint name").fill(stem.upper())
    await page.keyboard.press("Enter")
    await expect(page.locator("nav.pager")).to_contain_text("60 keys that fit")
    await expect(page.locator("tbody tr")).to_have_count(50)
    await page.get_by_role("link", name="Next page").click()
    await expect(page.locator("tbody tr")).to_have_count(10)
    await page.get_by_role("link", name="First page").click()
    await expect(page.locator("tbody tr")).to_have_count(50)
    async with page.expect_download() as saving:
        await page.get_by_role("link", name="CSV").click()
    text = (await (await saving.value).path()).read_text()
    assert len(text.splitlines()) == 61
    assert lines[0].split(":")[1] not in text
    # The audit says in words how many there were.
    await page.goto("/audit?action__eq=pre_shared_key.added&order=DESC")
    await expect(page.get_by_role("rowheader", name="60 pre-shared keys stored from a file").first).to_be_visible()


async def test_what_a_removed_key_means_is_said_before_it_goes(rig: Rig, page: Page) -> None:
    name = f"gone-{uuid4().hex[:8]}"
    await rig.ask(
        "POST",
        "/v1/pre-shared-keys",
        {"identity": name, "key": secrets.token_hex(16), "endpoint_name": name},
        201,
    )
    await page.goto(f"{PRE_SHARED_KEYS}?identity__like={name}")
    await page.get_by_role("row", name=name).get_by_role("link", name="Remove").click()
    await expect(dialog(page)).to_contain_text(f"{name} is unknown from its next handshake on")
    await dialog(page).get_by_role("button", name="Remove").click()
    await expect(page.get_by_role("status").first).to_contain_text(f"The key of {name} is removed")
    listed = await rig.ask("GET", f"/v1/pre-shared-keys?identity__like={name}")
    assert listed["data"] == []


async def test_a_reader_sees_whose_keys_there_are_and_changes_none(rig: Rig) -> None:
    async with rig.page(PRE_SHARED_KEYS, who="reader") as page:
        await expect(page.get_by_role("row", name="gauge-7").first).to_be_visible()
        for name in ("Add a key", "Add many", "Remove"):
            await expect(page.get_by_role("main").get_by_role("link", name=name)).to_have_count(0)
        await page.goto(f"{PRE_SHARED_KEYS}/add")
        await expect(page.get_by_role("alert")).to_contain_text("needs the role operator")
