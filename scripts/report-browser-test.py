"""Uses a run's report as a reader does, on a desktop and on a phone, in light and in dark."""

import json
import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}


def spot(page, i):
    """Where a point of the map is in the window."""
    return page.evaluate(
        """i => {
            const { points, width } = JSON.parse(document.getElementById("points").textContent);
            const box = document.querySelector("#map svg").getBoundingClientRect();
            return [0, 1].map(axis => [box.left, box.top][axis] + points[i][axis] * box.width / width);
        }""",
        i,
    )


def shown(page):
    tip = page.locator("#tip")
    assert tip.evaluate("e => getComputedStyle(e).visibility") == "visible", "no tooltip"
    place, frame = tip.bounding_box(), page.locator("#map").bounding_box()
    assert place["x"] >= frame["x"] - 1, "tooltip cut off at the left"
    assert place["x"] + place["width"] <= frame["x"] + frame["width"] + 1, "tooltip cut off"
    return tip.inner_text().strip()


def use(page, points, phone):
    image = {f"{points['classes'][kind]} (test image {number})" for _, _, kind, number in points["points"]}
    assert not page.locator("#tip.shown").count()
    page.locator("#map").scroll_into_view_if_needed()
    if phone:
        page.touchscreen.tap(*spot(page, 0))
    else:
        page.mouse.move(*spot(page, 0))
    assert shown(page) in image
    if not phone:
        page.mouse.move(1, 1)
        assert not page.locator("#tip.shown").count(), "the tooltip stays"
    page.locator("#map").focus()
    page.keyboard.press("Home")
    first = shown(page)
    page.keyboard.press("PageDown")
    second = shown(page)
    assert {first, second} <= image and first != second, (first, second)
    moved = set()
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"):
        page.keyboard.press("Home")
        page.keyboard.press(key)
        moved.add(shown(page))
    assert len(moved) >= 3, f"the arrows lead to {moved}"
    page.keyboard.press("Escape")
    assert not page.locator("#tip.shown").count(), "Escape leaves the tooltip"

    page.get_by_role("button", name="Copy the table").click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    rows = page.locator("#results tr").all()
    assert copied == ["\t".join(row.locator("th,td").all_inner_texts()) for row in rows], copied

    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{wide} pixels too wide"
    with page.expect_download() as download:
        page.get_by_role("link", name="roc.csv").click()
    return Path(download.value.path()).read_bytes()


run = Path(sys.argv[1]).resolve()
pictures = Path(sys.argv[2]) if len(sys.argv) > 2 else None
address = (run / "report.html").as_uri()
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
    for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
        for theme in ("light", "dark"):
            context = browser.new_context(
                viewport=size, color_scheme=theme, has_touch=name == "phone",
                permissions=["clipboard-read", "clipboard-write"],
            )
            page = context.new_page()
            said, asked = [], []
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(address)
            points = json.loads(page.locator("#points").text_content())
            if pictures:
                pictures.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=pictures / f"{name}-{theme}.png", full_page=True)
            roc = use(page, points, name == "phone")
            assert roc == (run / "report/roc.csv").read_bytes(), "roc.csv"
            assert not said, said
            outside = [url for url in asked if url != address and not url.startswith("data:")]
            assert not outside, outside
            if pictures:
                page.locator("#map").focus()
                page.keyboard.press("Home")
                page.screenshot(path=pictures / f"{name}-{theme}-map.png")
            context.close()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("figure svg[role=img]").count() == 5 and page.locator("#results td").count() > 0
    assert not page.get_by_role("button").count(), "a button that does nothing"
    assert not page.locator("#map-keys").is_visible(), "a hint that is not true"
    browser.close()
print(f"{run / 'report.html'} works on a desktop and a phone, in light and dark, and without scripts")
