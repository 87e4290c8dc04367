#!/usr/bin/env python3
"""Makes testdata/images: small pictures as PNG and JPEG, and what Pillow makes of them.

    testdata/make_images.py

`pixels.npz`: `rgb`, the pixels of `picture.png`; `jpeg`, those that Pillow decodes from `picture.jpg`; `gray`, its mode `L`;
`small` and `large`, `rgb` with the shorter side of 16 and 40 as torchvision computes the longer one (bilinear, with antialiasing);
`crop`, the middle 16x20 of `rgb`.
"""

import pathlib

import numpy as np
from PIL import Image

FOLDER = pathlib.Path(__file__).with_name("images")


def main():
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:27, 0:37]
    waves = [np.sin(x / 5 + k) * np.cos(y / (3 + k)) * 90 + 128 for k in range(3)]
    pixels = np.clip(np.stack(waves, -1) + rng.normal(0, 6, (27, 37, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.save(FOLDER / "picture.png")
    image.save(FOLDER / "picture.jpg", quality=90)
    image.convert("L").save(FOLDER / "gray.png")
    sized = lambda side: np.asarray(image.resize((int(side * 37 / 27), side), Image.BILINEAR))
    np.savez(
        FOLDER / "pixels.npz", rgb=pixels, jpeg=np.asarray(Image.open(FOLDER / "picture.jpg")),
        gray=np.asarray(image.convert("L"))[..., None], small=sized(16), large=sized(40), crop=pixels[6:22, 8:28],
    )  # fmt: skip


if __name__ == "__main__":
    main()
