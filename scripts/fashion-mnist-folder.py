"""Writes the four IDX files of MNIST's format from ten JSON files of images, one per class.

usage: fashion-mnist-folder.py CLASSES FOLDER
"""

import json
import struct
import sys
from pathlib import Path

PIXELS, TRAINED, TESTED = 28 * 28, 6000, 1000


def main(classes, folder):
    sets = {"train": [], "t10k": []}
    for label in range(10):
        images = json.loads((Path(classes) / f"{label}.json").read_text())["data"]
        images = [bytes(image) for image in images if len(image) == PIXELS]
        assert len(images) >= TRAINED + TESTED, f"{len(images)} images of class {label}"
        sets["train"] += [(image, label) for image in images[:TRAINED]]
        sets["t10k"] += [(image, label) for image in images[TRAINED : TRAINED + TESTED]]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, images in sets.items():
        header = struct.pack(">4B3I", 0, 0, 8, 3, len(images), 28, 28)
        content = header + b"".join(image for image, _ in images)
        (Path(folder) / f"{name}-images-idx3-ubyte").write_bytes(content)
        header = struct.pack(">4BI", 0, 0, 8, 1, len(images))
        content = header + bytes(label for _, label in images)
        (Path(folder) / f"{name}-labels-idx1-ubyte").write_bytes(content)
    print(f"{len(sets['train'])} images to train on and {len(sets['t10k'])} to test on in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
