"""The views of the portal as a person finds them: their addresses, the dialog, the line of a CA."""

from playwright.async_api import Locator, Page

CERTIFICATES = "/device-identity/certificates"
PRE_SHARED_KEYS = "/device-identity/pre-shared-keys"
CAS = "/device-identity/certificate-authorities"


def dialog(page: Page) -> Locator:
    """The dialog that is open."""
    return page.locator("dialog[open]")


def line(page: Page, name: str) -> Locator:
    """The line of a CA in the list of CAs."""
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))


async def fill(page: Page, **fields: str) -> None:
    """Type into the fields of the dialog by their labels, _ for a blank."""
    for label, text in fields.items():
        await dialog(page).get_by_label(label.replace("_", " "), exact=False).first.fill(text)
