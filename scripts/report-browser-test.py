"""Uses a run's report as a reader would, at desktop and phone size, in light and dark mode."""

import json
import sys
from pathlib import Path

from browser import chromium, views


def spot(page, i):
    """The position of a point of the map in the window."""
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

    with page.expect_download() as download:
        page.get_by_role("link", name="roc.csv").click()
    return Path(download.value.path()).read_bytes()


run = Path(sys.argv[1]).resolve()
pictures = Path(sys.argv[2]) if len(sys.argv) > 2 else None
if pictures:
    pictures.mkdir(parents=True, exist_ok=True)
address = (run / "report.html").as_uri()


def look(page, view):
    points = json.loads(page.locator("#points").text_content())
    if pictures:
        page.screenshot(path=pictures / f"report-{view}.png", full_page=True)
    roc = use(page, points, view.startswith("phone"))
    assert roc == (run / "report/roc.csv").read_bytes(), "roc.csv"
    if pictures:
        page.locator("#map").focus()
        page.keyboard.press("Home")
        page.screenshot(path=pictures / f"report-{view}-map.png")


with chromium() as browser:
    views(browser, address, look)
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(address)
    assert page.locator("figure svg[role=img]").count() == 5 and page.locator("#results td").count() > 0
    assert not page.get_by_role("button").count(), "a button that does nothing"
    assert not page.locator("#map-keys").is_visible(), "a hint that is not true"
print(f"{run / 'report.html'} works on a desktop and a phone, in light and dark, and without scripts")
