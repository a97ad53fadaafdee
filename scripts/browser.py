"""Opens a page in Chromium at desktop and phone size, in light and dark mode."""

import os
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 375, "height": 812}}


@contextmanager
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        yield browser
        browser.close()


def views(browser, address, use):
    """Calls `use(page, name)` for every view. Output on the console, a page wider than the window, and a
    request to anywhere but `address` are errors."""
    for size in SIZES:
        for theme in ("light", "dark"):
            context = browser.new_context(
                viewport=SIZES[size], color_scheme=theme, has_touch=size == "phone",
                permissions=["clipboard-read", "clipboard-write"],
            )
            page = context.new_page()
            said, asked = [], []
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(address)
            use(page, f"{size}-{theme}")
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{wide} pixels too wide"
            assert not said, said
            outside = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
            assert asked and not outside, outside
            context.close()
