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


def noted_tiff(image, order):
    """A TIFF with all kinds of notes, byte by byte after the TIFF 6 and Exif 2.32 standards."""
    ascii_, short, long_, rational, undefined = 2, 3, 4, 5, 7
    sizes = {1: "B", ascii_: "B", short: "H", long_: "I", rational: "I", undefined: "B"}
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))

    def directory(fields):
        entries = b""
        for tag, kind, values in sorted(fields):
            data = struct.pack(order + str(len(values)) + sizes[kind], *values)
            count = len(values) // 2 if kind == rational else len(values)
            if len(data) > 4:
                where = struct.pack(order + "I", len(out))
                out.extend(data + b"\0" * (len(data) % 2))
            else:
                where = data.ljust(4, b"\0")
            entries += struct.pack(order + "HHI", tag, kind, count) + where
        at = len(out)
        out.extend(struct.pack(order + "H", len(fields)) + entries + bytes(4))
        return at

    pixels = image.tobytes()
    pixels_at = len(out)
    out.extend(pixels)
    interoperability = directory([(1, ascii_, b"R98\0")])
    camera = directory([
        (0x829A, rational, (1, 250)),  # exposure time
        (0x8827, short, (400,)),  # ISO
        (0x9000, undefined, b"0232"),
        (0x927C, undefined, bytes(range(40))),  # maker note
        (0xA005, long_, (interoperability,)),
    ])
    place = directory([(1, ascii_, b"N\0"), (2, rational, (48, 1, 51, 1, 30, 1))])
    main = directory([
        (256, short, (image.width,)), (257, short, (image.height,)), (258, short, (8, 8, 8)),
        (259, short, (1,)), (262, short, (2,)), (273, long_, (pixels_at,)), (277, short, (3,)),
        (278, short, (image.height,)), (279, long_, (len(pixels),)),
        (271, ascii_, b"Hearken test camera\0"), (274, short, (6,)),
        (282, rational, (300, 1)), (283, rational, (300, 1)), (296, short, (2,)),
        (700, 1, b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
        (33723, undefined, b"\x1c\x02\x78\0\x05Attic"),
        (34675, undefined, profile), (0x8769, long_, (camera,)), (0x8825, long_, (place,)),
    ])
    struct.pack_into(order + "I", out, 4, main)
    return bytes(out)


exif = Image.Exif()
exif[0x010F] = "Hearken test camera"
exif[0x0112] = 6
scene(48, 32).save(here / "notes.jpg", quality=95, icc_profile=profile, exif=exif.tobytes())
scene(48, 32).save(here / "notes.png", icc_profile=profile, exif=exif.tobytes())
scene(48, 32).save(here / "notes.webp", lossless=True, icc_profile=profile, exif=exif.tobytes())
for order, name in [("<", "notes.tif"), (">", "notes-big-endian.tif")]:
    (here / name).write_bytes(noted_tiff(scene(24, 16), order))
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
