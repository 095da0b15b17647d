"""Draws the small test photos beside this file (Pillow 13). Nothing in them is anybody's.

    python make_photos.py
"""
import struct
from pathlib import Path

from PIL import Image, ImageCms

here = Path(__file__).parent
profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def scene(width, height):
    """A gradient from dark to light with coloured squares, away from both ends of the scale."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            grey = 60 + 110 * x // width
            square = ((x // 8) + 3 * (y // 8)) % 7
            image.putpixel((x, y), (grey + 8 * (square == 1), grey + 8 * (square == 3), grey + 8 * (square == 5)))
    return image


exif = Image.Exif()
exif[0x010F] = "Hearken test camera"
exif[0x0112] = 6
scene(48, 32).save(here / "notes.jpg", quality=95, icc_profile=profile, exif=exif.tobytes())
scene(48, 32).save(here / "notes.png", icc_profile=profile, exif=exif.tobytes())
scene(48, 32).save(here / "notes.webp", lossless=True, icc_profile=profile, exif=exif.tobytes())
scene(48, 32).save(here / "turned.tif", icc_profile=profile, tiffinfo={274: 6})
alpha = scene(48, 32).convert("RGBA")
alpha.putalpha(Image.linear_gradient("L").resize((48, 32)))
alpha.save(here / "alpha.png")
scene(48, 32).convert("CMYK").save(here / "cmyk.jpg")
scene(48, 32).convert("L").save(here / "grey.jpg")
scene(48, 32).save(here / "progressive.jpg", progressive=True)
frames = [scene(16, 16), Image.new("RGB", (16, 16), (200, 30, 30))]
frames[0].save(here / "animated.png", save_all=True, append_images=frames[1:])
frames[0].save(here / "animated.webp", save_all=True, append_images=frames[1:])
# A header that promises 30000x30000 pixels, and nothing behind it.
size = struct.pack(">HH", 30000, 30000)
data = (here / "notes.jpg").read_bytes()
at = data.index(b"\xff\xc0")
(here / "bomb.jpg").write_bytes(data[: at + 5] + size + data[at + 9 :])
