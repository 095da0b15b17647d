#!/usr/bin/env python3
"""How many spectrogram columns a second scipy and librosa make on one thread, to set beside the
figures of `cargo bench`.

    pip install numpy scipy librosa
    python compare_stft.py [--seconds 60] [--repeat 5] [--json]

Work: mono 32 kHz noise, 2048-point FFT, Hann window of 1764 samples, hop 705, 227 mel bands from
0 to 15 kHz, log10 of the power. The best of several runs counts, after one run to warm up.
"""

import os

# Before numpy is imported: its libraries read these once.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
             "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[name] = "1"

import argparse  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402

import librosa  # noqa: E402
import numpy as np  # noqa: E402
import scipy  # noqa: E402
import scipy.signal  # noqa: E402

SAMPLE_RATE, FFT_SIZE, HANN_SIZE, HOP, BANDS, F_MAX = 32_000, 2048, 1764, 705, 227, 15_000.0
FLOOR = 1e-5


def scipy_columns(samples, window, filters):
    """scipy.signal.stft, mel filters as a matrix product, log10."""
    _, _, spectrum = scipy.signal.stft(
        samples, fs=SAMPLE_RATE, window=window, nperseg=FFT_SIZE, noverlap=FFT_SIZE - HOP, padded=False
    )
    power = spectrum.real**2 + spectrum.imag**2
    return np.log10(filters @ power + FLOOR)


def librosa_columns(samples, log):
    """librosa.feature.melspectrogram, then log10 where asked."""
    mel = librosa.feature.melspectrogram(
        y=samples, sr=SAMPLE_RATE, n_fft=FFT_SIZE, win_length=HANN_SIZE, hop_length=HOP,
        n_mels=BANDS, fmin=0.0, fmax=F_MAX, htk=True, norm=None,
    )
    return np.log10(mel + FLOOR) if log else mel


def columns_per_second(work, repeat):
    """Of the fastest of `repeat` runs."""
    work()
    best = float("inf")
    for _ in range(repeat):
        begin = time.perf_counter()
        columns = work().shape[1]
        best = min(best, time.perf_counter() - begin)
    return columns / best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the noise")
    parser.add_argument("--repeat", type=int, default=5, help="runs, of which the best counts")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()

    generator = np.random.default_rng(1)
    samples = (0.1 * generator.standard_normal(int(args.seconds * SAMPLE_RATE))).astype(np.float32)
    window = np.zeros(FFT_SIZE, dtype=np.float32)
    left = (FFT_SIZE - HANN_SIZE) // 2
    window[left : left + HANN_SIZE] = np.hanning(HANN_SIZE)
    filters = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=FFT_SIZE, n_mels=BANDS, fmin=0.0, fmax=F_MAX, htk=True, norm=None
    )
    works = {
        "scipy stft + mel + log10": lambda: scipy_columns(samples, window, filters),
        "librosa melspectrogram": lambda: librosa_columns(samples, log=False),
        "librosa melspectrogram + log10": lambda: librosa_columns(samples, log=True),
    }
    rates = {name: round(columns_per_second(work, args.repeat)) for name, work in works.items()}
    if args.json:
        versions = {m.__name__: m.__version__ for m in (np, scipy, librosa)}
        print(json.dumps({"columns_per_second": rates, "threads": 1, "seconds": args.seconds,
                          "repeat": args.repeat, "versions": versions}))
        return
    print(f"{'one thread':32} columns/s  x real time")
    for name, rate in rates.items():
        print(f"{name:32} {rate:9,d}  {rate * HOP / SAMPLE_RATE:11,.0f}")


if __name__ == "__main__":
    main()
