"""Uses the page of `train serve` as a visitor would: draws two digits, chooses files, enters the key, reads the verdict."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from math import cos, pi, sin
from pathlib import Path

from browser import chromium, views
from playwright.sync_api import expect

GIVEN = Path(__file__).parent.parent / "docs/pictures"
# In fractions of the square's side.
ONE = [(0.5, 0.15), (0.5, 0.85)]
ZERO = [(0.5 + 0.25 * sin(turn * pi / 12), 0.5 - 0.35 * cos(turn * pi / 12)) for turn in range(25)]

SAME = re.compile(r"^The same: distance \d\.\d{4}, within the threshold \d\.\d{4}\.$")
DIFFERENT = re.compile(r"^Different: distance \d\.\d{4}, beyond the threshold \d\.\d{4}\.$")


def square(page, side):
    return page.locator(f"[data-side={side}]")


def draw(page, side, points):
    canvas = square(page, side).locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for i, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def use(page, view):
    verdict = page.locator("#verdict")
    page.locator("#map .point").first.wait_for(state="attached")
    places = page.locator("#map .place")
    assert places.count() == 0
    draw(page, "a", ONE)
    expect(verdict).to_have_text("Now the second picture.")
    draw(page, "b", ZERO)
    expect(verdict).to_have_text(DIFFERENT)
    assert places.count() == 2, "both on the map"
    if pictures:
        page.screenshot(path=pictures / f"service-{view}.png", full_page=True)

    page.get_by_role("button", name="Clear the second picture").click()
    expect(verdict).to_have_text("Now the second picture.")
    assert places.count() == 0
    draw(page, "b", ONE)
    expect(verdict).to_have_text(SAME)

    # Files can be chosen with the keyboard too: the input takes the focus.
    for side, name in (("a", "three.png"), ("b", "another-three.jpg")):
        chooser = square(page, side).locator("input")
        chooser.focus()
        assert chooser.evaluate("it => it === document.activeElement")
        chooser.set_input_files(GIVEN / name)
    expect(square(page, "b").locator(".treatment")).to_contain_text("300x420")
    expect(verdict).to_have_text(SAME)
    square(page, "b").locator("input").set_input_files(GIVEN / "seven.png")
    expect(verdict).to_have_text(DIFFERENT)
    if pictures:
        page.screenshot(path=pictures / f"service-{view}-files.png", full_page=True)


def refuse(page):
    """Gives it a file that is not a picture. Not one of the views: Chromium logs the error status to the console."""
    draw(page, "a", ONE)
    square(page, "b").locator("input").set_input_files(__file__)
    expect(page.locator("#verdict")).to_contain_text("No verdict: ")


def unlock(page, key):
    """Enters the key that the service asks for."""
    box = page.get_by_label("This service asks for its API key")
    expect(box).to_be_visible()
    box.fill(key)
    box.press("Enter")
    page.locator("#map .point").first.wait_for(state="attached")
    expect(box).to_be_hidden()
    draw(page, "a", ONE)
    draw(page, "b", ZERO)
    expect(page.locator("#verdict")).to_have_text(DIFFERENT)


class Service:
    """`train serve` with these flags, and the address of its page; it has to stop when it is told to."""

    def __init__(self, run, *flags):
        command = [os.environ["TRAIN"], "serve", run, "--port", "0", "--json", *flags]
        # Any other key is not ours to ask for.
        environment = {name: value for name, value in os.environ.items() if name != "TRAIN_API_KEY"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.address = json.loads(self.process.stdout.readline())["url"]

    def __enter__(self):
        return self.address

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        ended = self.process.wait(timeout=30)
        assert ended == 0, f"train serve ended with {ended}"


run = sys.argv[1]
pictures = Path(sys.argv[2]) if len(sys.argv) > 2 else None
if pictures:
    pictures.mkdir(parents=True, exist_ok=True)
with chromium() as browser:
    with Service(run) as address:
        views(browser, address, use)
        page = browser.new_page()
        page.goto(address)
        refuse(page)
    with tempfile.NamedTemporaryFile("w") as file:
        key = secrets.token_hex(16)
        file.write(key)
        file.flush()
        with Service(run, "--path-prefix", "/same", "--api-key-file", file.name) as address:
            page = browser.new_page()
            # Without the slash, as people type it.
            page.goto(address.rstrip("/"))
            unlock(page, key)
print(f"the page of `train serve {run}` works on a desktop and a phone, in light and dark")
