"""What somebody typed is not lost: to a slip of the mouse or a key, to a server that is away, to a way back."""

import re
from pathlib import Path

from playwright.async_api import Dialog, Page, expect

from tests.console.rig import Rig
from tests.console.views import CAS, CERTIFICATES, dialog

TYPED = "Turku factory"


async def upload_begun(page: Page) -> None:
    """The dialog of an upload, with a name in it."""
    await page.goto(CERTIFICATES)
    await page.get_by_role("link", name="Upload a certificate").click()
    await dialog(page).get_by_label("Name").fill(TYPED)


async def test_a_selection_that_ends_outside_closes_no_dialog_and_neither_does_a_stray_click(page: Page) -> None:
    await upload_begun(page)
    name = dialog(page).get_by_label("Name")
    box = await name.bounding_box()
    assert box
    await page.mouse.move(box["x"] + 20, box["y"] + 10)
    await page.mouse.down()
    await page.mouse.move(5, 5)
    await page.mouse.up()
    await expect(name).to_have_value(TYPED)
    await page.mouse.click(5, 5)
    await expect(name).to_have_value(TYPED)


async def test_a_click_beside_leaves_a_dialog_where_nothing_was_typed(page: Page) -> None:
    await page.goto(CERTIFICATES)
    await page.get_by_role("link", name="Upload a certificate").click()
    await expect(dialog(page)).to_be_visible()
    await page.mouse.click(5, 5)
    await expect(dialog(page)).to_have_count(0)


async def test_escape_asks_before_it_leaves_what_was_typed(page: Page) -> None:
    asked, leave = list[str](), False

    async def answer(question: Dialog) -> None:
        asked.append(question.message)
        await (question.accept() if leave else question.dismiss())

    page.on("dialog", answer)
    await upload_begun(page)
    await page.keyboard.press("Escape")
    await expect(dialog(page).get_by_label("Name")).to_have_value(TYPED)
    leave = True
    # A browser lets nobody be held by two Escapes in a row.
    await dialog(page).get_by_label("Name").click()
    await page.keyboard.press("Escape")
    await expect(dialog(page)).to_have_count(0)
    assert asked[0] == "What you typed here is not saved. Leave it?"
    # What is only looked at is left without a question.
    del asked[:]
    await page.goto(CAS)
    await page.get_by_role("link", name="Add CA").click()
    await expect(dialog(page)).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(dialog(page)).to_have_count(0)
    assert asked == []


async def test_a_server_that_does_not_answer_is_told_and_the_form_stays_as_it_was(page: Page) -> None:
    await upload_begun(page)
    await page.route("**/device-identity/**", lambda route: route.abort("connectionrefused"))
    await dialog(page).get_by_role("button", name="Next").click()
    await expect(dialog(page).get_by_role("alert")).to_contain_text("it is not known whether this was done")
    await expect(dialog(page).get_by_label("Name")).to_have_value(TYPED)
    await page.unroute("**/device-identity/**")
    await dialog(page).get_by_role("button", name="Next").click()
    await expect(dialog(page)).to_contain_text("say how devices will use it")
    await expect(dialog(page).locator(".unanswered")).to_have_count(0)
    await expect(dialog(page).get_by_label("Name")).to_have_value(TYPED)


async def test_a_dialog_that_cannot_be_fetched_says_so_on_its_page(page: Page) -> None:
    await page.goto(CAS)
    await page.route("**/device-identity/**", lambda route: route.abort("connectionrefused"))
    await page.get_by_role("link", name="Add CA").click()
    await expect(page.get_by_role("main").get_by_role("alert")).to_contain_text("The server cannot be reached")


async def test_a_file_that_is_too_large_is_told_where_it_was_chosen(page: Page, tmp_path: Path) -> None:
    await upload_begun(page)
    large, small = tmp_path / "large.pem", tmp_path / "small.pem"
    large.write_bytes(b"x" * 300_000)
    small.write_bytes(b"x" * 300)
    await page.locator("input[type=file]").set_input_files(large)
    told = dialog(page).locator(".file .hint")
    await expect(told).to_have_text("large.pem is not read: it is larger than 256 KiB")
    await expect(dialog(page).get_by_role("textbox", name="Certificate")).to_have_value("")
    await page.locator("input[type=file]").set_input_files(small)
    await expect(told).to_have_text("small.pem is read")


async def test_the_way_back_from_the_preview_holds_what_was_typed(rig: Rig, page: Page) -> None:
    await upload_begun(page)
    pem = rig.scene.ca.pem.decode()
    await dialog(page).get_by_role("textbox", name="Certificate").fill(pem)
    await dialog(page).get_by_label("How will devices use this certificate?").select_option("bootstrap")
    await dialog(page).get_by_label("First to claim").check()
    await dialog(page).get_by_label("Description").fill("in the south")
    await dialog(page).get_by_role("button", name="Next").click()
    await dialog(page).get_by_role("button", name="Back").click()
    await expect(dialog(page).get_by_label("Name")).to_have_value(TYPED)
    await expect(dialog(page).get_by_role("textbox", name="Certificate")).to_have_value(pem.strip())
    await expect(dialog(page).get_by_label("How will devices use this certificate?")).to_have_value("bootstrap")
    await expect(dialog(page).get_by_label("First to claim")).to_be_checked()
    await expect(dialog(page).get_by_label("Description")).to_have_value("in the south")


async def test_whoever_leaves_a_profile_that_is_not_stored_is_asked(page: Page) -> None:
    asked = list[str]()

    async def stay(question: Dialog) -> None:
        asked.append(question.type)
        await question.dismiss()

    page.on("dialog", stay)
    await page.goto("/profiles/default")
    text = page.get_by_label("Text (TOML)")
    await text.press_sequentially("# ")
    await page.get_by_role("navigation", name="Views").get_by_role("link", name="Devices").click()
    await expect(text).to_have_value(re.compile("# "))
    assert asked == ["beforeunload"]
