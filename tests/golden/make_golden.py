#!/usr/bin/env python3
"""Makes the golden files of this folder: an independent reference for the spectrogram and the
network, written from the recipe and not from Hearken's source.

    pip install numpy soxr soundfile onnxruntime pillow
    python make_golden.py --data DATA --model MODEL.onnx [--out FOLDER]

DATA    the folder that holds esc50/esc50.csv, esc50/LICENSE and esc50/audio
MODEL   the model file: float32 [1, 1, 227, 227] -> logits [1, classes], with its metadata
FOLDER  where to write; by default the folder of this script

Everything up to the 8-bit image is float64 (numpy); soxr at quality VHQ resamples, libsndfile
decodes, onnxruntime runs the network. See README.md for what each file is.
"""

import argparse
import csv
import hashlib
import json
import re
import shutil
import wave
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr
from PIL import Image

# ---------------------------------------------------------------------------- the recipe
SAMPLE_RATE = 32_000
WINDOW_SAMPLES = 160_000  # 5.0 s
FFT_SIZE = 2048
HANN_SIZE = 1764
HOP = 705
BANDS = 227
COLUMNS = 227
F_MIN, F_MAX = 0.0, 15_000.0
PRE_EMPHASIS = 0.97
FLOOR = 1e-5
LEVEL_LO, LEVEL_HI = -1.4025851, 2.6

# ---------------------------------------------------------------------------- the choice
# Name -> file of ESC-50; each is CC0 by itself. The door is the stereo one, at 48 kHz.
CLIPS = {
    "siren": "2-70936-A-42.ogg",
    "dog": "1-100032-A-0.ogg",
    "thunderstorm": "4-161519-A-19.ogg",
    "glass_breaking": "3-203373-A-39.ogg",
    "crying_baby": "3-152007-E-20.ogg",
    "rain": "1-17367-A-10.ogg",
    "door_wood_knock": "1-103999-A-30.ogg",
}
# This one is also written at 32 kHz, mono, 16 bits: no resampler and no lossy decoder in the way.
PLAIN_WAV_OF = "siren"


def hann_in_frame():
    """Symmetric Hann window of HANN_SIZE samples, centred in FFT_SIZE by zeros on both sides."""
    n = np.arange(HANN_SIZE)
    window = np.zeros(FFT_SIZE)
    left = (FFT_SIZE - HANN_SIZE) // 2
    window[left : left + HANN_SIZE] = 0.5 - 0.5 * np.cos(2 * np.pi * n / (HANN_SIZE - 1))
    return window


def mel(hertz):
    """Mel scale of HTK and Kaldi."""
    return 1127.0 * np.log(1.0 + np.asarray(hertz, dtype=float) / 700.0)


def mel_filters():
    """[BANDS, FFT_SIZE / 2 + 1]: triangles of height 1 whose sides are straight in mel."""
    edges = np.linspace(mel(F_MIN), mel(F_MAX), BANDS + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = mel(np.arange(FFT_SIZE // 2 + 1) * SAMPLE_RATE / FFT_SIZE)[None, :]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def stft_power(samples):
    """[frames, FFT_SIZE / 2 + 1] of |X|^2. Frame k is centred on sample k * HOP of the
    pre-emphasised signal, which is one sample shorter than `samples` and mirrored at both ends
    without repeating the end sample."""
    x = np.asarray(samples, dtype=float)
    y = x[1:] - PRE_EMPHASIS * x[:-1]
    padded = np.pad(y, FFT_SIZE // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP]
    spectrum = np.fft.rfft(frames * hann_in_frame(), axis=1)
    return spectrum.real**2 + spectrum.imag**2


def levels(samples):
    """[BANDS, COLUMNS], pixel values before rounding and clamping; row 0 is the lowest band."""
    power = stft_power(samples) @ mel_filters().T
    v = (np.log(power + FLOOR) + 4.5) / 5.0
    return (255.0 * (v - LEVEL_LO) / (LEVEL_HI - LEVEL_LO)).T


def image(samples):
    """uint8 [BANDS, COLUMNS] of 160,000 samples in -1..1; row 0 is the lowest band."""
    return np.clip(np.rint(levels(samples)), 0, 255).astype(np.uint8)


def softmax(logits):
    e = np.exp(logits - logits.max())
    return e / e.sum()


def five_seconds(path, channels="first"):
    """The first 5 s of a file at 32 kHz, zeros added if it is shorter. `channels`: `first`, or
    `sum`, ESC-50's own mono: left plus right, clipped."""
    x, rate = soundfile.read(path, dtype="float64", always_2d=True)
    mono = x[:, 0] if channels == "first" or x.shape[1] == 1 else np.clip(x.sum(axis=1), -1, 1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="VHQ")
    mono = mono[:WINDOW_SAMPLES]
    return np.pad(mono, (0, WINDOW_SAMPLES - len(mono)))


# ---------------------------------------------------------------------------- the synthetic clip
def lcg_noise(count, state=1):
    """Uniform noise in -1..1 that any language can repeat: the upper 16 bits of the 32-bit linear
    congruential generator of Numerical Recipes."""
    out = np.empty(count)
    for i in range(count):
        state = (1_664_525 * state + 1_013_904_223) & 0xFFFF_FFFF
        out[i] = (state >> 16) / 32_767.5 - 1.0
    return out


def synthetic():
    """int16 [160,000]: 0 to 3 s linear chirp 100 Hz to 14 kHz at half scale; 3 to 4 s white noise
    at a quarter; 4 to 4.5 s digital silence; 4.5 to 5 s 1 kHz at a tenth."""
    x = np.zeros(WINDOW_SAMPLES)
    t = np.arange(96_000) / SAMPLE_RATE
    x[:96_000] = 0.5 * np.sin(2 * np.pi * (100 * t + (14_000 - 100) / (2 * 3.0) * t * t))
    x[96_000:128_000] = 0.25 * lcg_noise(32_000)
    t = np.arange(16_000) / SAMPLE_RATE
    x[144_000:] = 0.1 * np.sin(2 * np.pi * 1_000 * t)
    return np.rint(x * 32_767).astype(np.int16)


# ---------------------------------------------------------------------------- writing
def write_wav(path, pcm):
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, SAMPLE_RATE, len(pcm), "NONE", "NONE"))
        out.writeframes(pcm.astype("<i2").tobytes())


def write_json(path, document):
    """One line for each key, and for each object of a list: short, and a change shows as one line."""
    parts = []
    for key, value in document.items():
        text = json.dumps(value)
        if isinstance(value, list) and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(json.dumps(v) for v in value) + "\n ]"
        parts.append(f" {json.dumps(key)}: {text}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def write_png(path, pixels):
    """Bare 8-bit greyscale, the lowest band at the BOTTOM, as people expect it."""
    Image.fromarray(pixels[::-1]).save(path, optimize=True)


def attribution(licence_text, file_name):
    """What ESC-50's list says of a clip: title, link, author and licence of its recording."""
    key = re.escape(file_name.rsplit("-", 1)[0])
    line = re.search(
        rf"\[{key}\.ogg\]: clip derived from (.*) \((http\S+)\) by (.*) \[(.*)\]", licence_text
    )
    return dict(zip(("title", "link", "author", "licence"), line.groups()))


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def metadata(session, key):
    return session.get_modelmeta().custom_metadata_map[f"hearken.{key}"]


def entry(session, classes, samples, **known):
    """One item of golden.json, and its image."""
    pixels = image(samples)
    feed = {"image": pixels[None, None].astype(np.float32)}
    logits = session.run(None, feed)[0][0]
    activation = json.loads(metadata(session, "activation"))
    scores = {"softmax": softmax, "sigmoid": sigmoid}[activation](logits.astype(float))
    order = np.argsort(-scores)[:5]
    known.update(
        image_sha256=hashlib.sha256(pixels[::-1].tobytes()).hexdigest(),
        predicted=classes[order[0]],
        top=[{"class": classes[i], "score": round(float(scores[i]), 6)} for i in order],
        logits=[round(float(v), 5) for v in logits],
    )
    return known, pixels


def piece_figures(pcm):
    """Figures of the parts, so that a wrong image can be traced to the part that is wrong."""
    samples = pcm / 32_768.0
    window, filters = hann_in_frame(), mel_filters()
    power, unrounded = stft_power(samples), levels(samples)
    common = [0, 1, 2, 3, 4, 6, 9, 13, 19, 28, 41, 60, 88, 129, 189, 277, 406, 595, 872, 960, 1023, 1024]
    stft = []
    for k in (0, 1, 113, 226):
        bins = sorted(set(common) | {int(b) for b in np.argsort(-power[k])[:10]})
        stft.append({"frame": k, "max": power[k].max(), "bins": bins, "power": power[k][bins].tolist()})
    rows = []
    for band in (0, 1, 2, 10, 50, 113, 180, 225, 226):
        bins = np.flatnonzero(filters[band])
        rows.append(
            {"band": band, "first_bin": int(bins[0]), "weights": filters[band][bins].tolist()}
        )
    at = [0, 141, 142, 143, 144, 200, 400, 583, 800, 1022, 1023, 1024, 1025, 1500, 1903, 1904, 1905, 1906, 2047]
    columns = (0, 1, 60, 113, 150, 192, 225, 226)
    return {
        "of": "synthetic.wav",
        "hann_in_frame": {"index": at, "value": window[at].tolist(), "sum": window.sum()},
        "mel_filters": {"sum": filters.sum(), "rows": rows},
        "stft_power": stft,
        "unrounded_pixels": [
            {"column": c, "lowest_band_first": [round(v, 6) for v in unrounded[:, c]]} for c in columns
        ],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds esc50/")
    parser.add_argument("--model", type=Path, required=True, help="model file")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    args = parser.parse_args()

    esc50 = args.data / "esc50"
    rows = {r["filename"]: r for r in csv.DictReader(open(esc50 / "esc50.csv"))}
    licences = (esc50 / "LICENSE").read_text()
    session = onnxruntime.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    classes = json.loads(metadata(session, "outputs"))

    items = []

    def keep(name, samples, **known):
        item, pixels = entry(session, classes, samples, name=name, png=f"{name}.png", **known)
        write_png(args.out / item["png"], pixels)
        items.append(item)

    def keep_wav(name, pcm, **known):
        write_wav(args.out / f"{name}.wav", pcm)
        keep(name, pcm / 32_768.0, file=f"{name}.wav", sample_rate=SAMPLE_RATE,
             channels=1, frames=len(pcm), mono="first", **known)

    for name, source in CLIPS.items():
        row, path = rows[source], esc50 / "audio" / source
        info = soundfile.info(path)
        known = {"class": row["category"], "source": source, **attribution(licences, source)}
        shutil.copyfile(path, args.out / f"{name}.ogg")
        (args.out / f"{name}.ogg").chmod(0o644)
        decoded = dict(file=f"{name}.ogg", sample_rate=info.samplerate, channels=info.channels,
                       frames=info.frames)
        keep(name, five_seconds(path), mono="first", **decoded, **known)
        if info.channels == 2:
            keep(f"{name}_sum", five_seconds(path, "sum"), mono="sum", **decoded, **known)
        if name == PLAIN_WAV_OF:
            scaled = np.rint(five_seconds(path) * 32_768)
            keep_wav(f"{name}_32k", np.clip(scaled, -32_768, 32_767).astype(np.int16), **known)
    pcm = synthetic()
    keep_wav("synthetic", pcm, source="synthetic", title="chirp, noise, silence, tone",
             author="make_golden.py", licence="CC0", link=None, **{"class": None})

    digest = hashlib.sha256(args.model.read_bytes()).hexdigest()
    golden = {"model_sha256": digest, "classes": classes, "items": items}
    write_json(args.out / "golden.json", golden)
    write_json(args.out / "pieces.json", piece_figures(pcm))
    for item in items:
        print(f"{item['name']:16} {item['class'] or '-':16} {item['top'][0]}")


if __name__ == "__main__":
    main()
