"""Pictures read from files and scaled, by Pillow and here.

usage: compare-pillow.py SERVE_PICTURES [ROUNDS]

Makes 64 JPEGs of 640x480 pixels (quality 85, Pillow's own encoder) and 64 PNGs of 300x420, all of them noise
with the spectrum of photographs. Each is read, as RGB, and scaled in proportion to fit into 64x64 with the
bicubic filter: by Pillow; by Pillow with `draft`, which decodes JPEGs at a reduced size; and here, where it is
framed too.

Our pictures must differ from Pillow's by at most 2 grey levels anywhere: JPEG decoders round differently, and
Pillow rounds between its two passes. How far `draft` is from them is printed.

Then times ROUNDS (15) alternating rounds, with 1 and with 2 threads; Pillow's let go of Python's lock while they
decode and scale. Ratios are taken within a round, so a busy machine slows all sides.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy
import PIL
from ours import Ours
from PIL import Image

COUNT = 64
FRAME = 64
# Grey levels by which ours may differ.
ALLOWED = 2
# Width and height.
KINDS = {"jpg": (640, 480), "png": (300, 420)}


def noise(rng, height, width, channels, exponent):
    """(H, W, C) of standard deviation 1, whose amplitude falls with this power of the frequency."""
    frequency = numpy.hypot(numpy.fft.fftfreq(height)[:, None], numpy.fft.rfftfreq(width))
    frequency[0, 0] = numpy.inf
    parts = rng.normal(size=(2, channels, *frequency.shape)) / frequency**exponent
    values = numpy.fft.irfft2(parts[0] + 1j * parts[1], s=(height, width))
    return (values / values.std(axis=(1, 2), keepdims=True)).transpose(1, 2, 0)


def make(folder, kind):
    width, height = KINDS[kind]
    rng = numpy.random.default_rng(1)
    for i in range(COUNT):
        light, colour = noise(rng, height, width, 1, 1.3), noise(rng, height, width, 3, 1.6)
        pixels = (128 + 50 * light + 15 * colour).clip(0, 255).astype(numpy.uint8)
        options = {"quality": 85} if kind == "jpg" else {}
        Image.fromarray(pixels).save(folder / f"{i:03}.{kind}", **options)


class Pillow:
    def __init__(self, files, size, draft, threads):
        self.files, self.size, self.draft = files, size, draft
        self.map = map if threads == 1 else ThreadPoolExecutor(threads).map

    def read(self, path):
        with Image.open(path) as image:
            if self.draft:
                image.draft("RGB", self.size)
            return image.convert("RGB").resize(self.size, Image.Resampling.BICUBIC)

    def all(self):
        return list(self.map(self.read, self.files))

    def seconds(self):
        start = time.perf_counter()
        self.all()
        return time.perf_counter() - start


def count(threads):
    return "1 thread" if threads == 1 else f"{threads} threads"


def levels(pictures):
    return numpy.stack([numpy.asarray(picture) for picture in pictures]).astype(int)


def compare(program, kind, rounds, folder):
    width, height = KINDS[kind]
    pictures, result = folder / kind, folder / f"{kind}.result"
    pictures.mkdir()
    make(pictures, kind)
    files = sorted(pictures.iterdir())
    scale = FRAME / max(width, height)
    to = round(width * scale), round(height * scale)
    left, top = (FRAME - to[0]) // 2, (FRAME - to[1]) // 2

    sides = {}
    for threads in (1, 2):
        sides["plain", threads] = Pillow(files, to, False, threads)
        if kind == "jpg":
            sides["draft", threads] = Pillow(files, to, True, threads)
        sides["ours", threads] = Ours([program, pictures, result], threads)

        framed = numpy.fromfile(result, numpy.uint8).reshape(COUNT, 3, FRAME, FRAME)
        ours = framed[:, :, top : top + to[1], left : left + to[0]].transpose(0, 2, 3, 1)
        for name in ("plain", "draft"):
            if (name, threads) in sides:
                off = abs(ours - levels(sides[name, threads].all()))
                print(
                    f"{kind}, {count(threads)}: ours is off Pillow's ({name}) by at most {off.max()} "
                    f"grey levels, {off.mean():.2f} on average"
                )
                if name == "plain" and off.max() > ALLOWED:
                    sys.exit(f"only {ALLOWED} are allowed")

    taken = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            taken[side].append(sides[side].seconds())
    for threads in (1, 2):
        sides["ours", threads].close()

    def ratio(slow, fast):
        ratios = sorted(a / b for a, b in zip(taken[slow], taken[fast]))
        return f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"

    for name, threads in sides:
        ours = "" if name == "ours" else f"; ours is {ratio((name, threads), ('ours', threads))} times as fast"
        print(
            f"{kind}, {count(threads)}, {name}: {COUNT / median(taken[name, threads]):.0f} pictures a "
            f"second{ours}"
        )
    for name in dict.fromkeys(name for name, _ in sides):
        print(f"{kind}, {name}: two threads are {ratio((name, 1), (name, 2))} times as fast as one")


def main(program, rounds=15):
    print(f"Pillow {PIL.__version__}; medians of {rounds} rounds, the lowest and the highest in brackets")
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            compare(program, kind, int(rounds), Path(folder))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
