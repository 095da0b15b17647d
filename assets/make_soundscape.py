#!/usr/bin/env python3
"""Makes soundscape.ogg: 34 s of a quiet room with a siren, thunder, breaking glass and a dog.

    pip install numpy soxr soundfile
    python make_soundscape.py --data DATA [--out soundscape.ogg]

DATA is the folder that holds esc50/audio. The room is noise made of sines that fit the length a
whole number of times, so the recording loops without a seam. See README.md for the clips.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 32_000
SECONDS = 34
ROOM_DBFS = -55.0
# Start in s, clip of ESC-50 (all CC0), from s, to s, gain in dB, fade in and fade out in s.
EVENTS = [
    (2.0, "2-70936-A-42.ogg", 0.0, 4.5, -6.0, 0.03, 0.3),  # siren
    (10.0, "4-161519-A-19.ogg", 0.0, 4.8, 0.0, 0.05, 0.8),  # thunder
    (18.0, "3-203371-A-39.ogg", 0.0, 2.0, -3.0, 0.005, 0.3),  # glass
    (20.2, "3-203373-A-39.ogg", 0.0, 1.5, -3.0, 0.005, 0.3),
    (21.8, "3-203377-A-39.ogg", 0.0, 1.5, -3.0, 0.005, 0.3),
    (26.0, "4-191687-A-0.ogg", 0.2, 4.8, -3.0, 0.02, 0.3),  # dog
]


def room(count, dbfs):
    """Periodic noise of `count` samples at `dbfs` RMS: flat from 20 to 200 Hz, then falling by
    6 dB an octave to 13 kHz."""
    generator = np.random.default_rng(11)
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    amplitude = 1.0 / np.maximum(1.0, hertz / 200.0)
    amplitude[(hertz < 20) | (hertz > 13_000)] = 0.0
    noise = np.fft.irfft(amplitude * np.exp(2j * np.pi * generator.random(len(hertz))), count)
    return noise * 10 ** (dbfs / 20) / np.sqrt(np.mean(noise**2))


def cut(path, begin, end, gain_db, fade_in, fade_out):
    """Part of the first channel at 32 kHz with raised-cosine fades."""
    x, rate = soundfile.read(path, dtype="float64", always_2d=True)
    x = soxr.resample(x[:, 0], rate, SAMPLE_RATE, quality="VHQ")
    x = x[int(begin * SAMPLE_RATE) : int(end * SAMPLE_RATE)] * 10 ** (gain_db / 20)
    rise, fall = int(fade_in * SAMPLE_RATE), int(fade_out * SAMPLE_RATE)
    x[:rise] *= np.sin(np.linspace(0, np.pi / 2, rise)) ** 2
    x[-fall:] *= np.cos(np.linspace(0, np.pi / 2, fall)) ** 2
    return x


def soundscape(audio):
    """float64 [SECONDS * SAMPLE_RATE]."""
    mix = room(SECONDS * SAMPLE_RATE, ROOM_DBFS)
    for start, clip, *how in EVENTS:
        piece = cut(audio / clip, *how)
        at = int(start * SAMPLE_RATE)
        mix[at : at + len(piece)] += piece
    if np.abs(mix).max() >= 1.0:
        raise SystemExit("the mix clips: lower the gains in EVENTS")
    return mix


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds esc50/audio")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "soundscape.ogg")
    args = parser.parse_args()
    mix = soundscape(args.data / "esc50" / "audio")
    with soundfile.SoundFile(args.out, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS",
                             compression_level=0.5) as out:
        for begin in range(0, len(mix), SAMPLE_RATE):  # libsndfile overflows its stack on long writes
            out.write(mix[begin : begin + SAMPLE_RATE])


if __name__ == "__main__":
    main()
