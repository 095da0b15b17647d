#!/usr/bin/env python3
"""Makes recordings of other sounds than the model's out of Debian 12's packages: music, single
instruments, drums, speech in over twenty languages, and Morse code.

usage: scripts/negatives.py [--unheard] DIR

Writes 368 recordings of up to a minute, mono at 32 kHz, to DIR/music, DIR/instruments, DIR/drums,
DIR/speech and DIR/morse (170 MB), over those of before. It downloads 1 GB, and needs 3 GB in TMPDIR
meanwhile. The rows of models/sound.clips.csv say which fold they belong to, and what may be heard in
them all the same (bells, wind, clapping).

With --unheard it writes 261 pieces of music of other packages to DIR/unheard instead (140 MB),
downloads 2.1 GB and needs 3 GB as well. The shipped model has not learned from these: its false alarms are
counted on them, too. The rows of models/backgrounds.csv belong to both.

The same packages give the same sounds.
"""

import argparse
import array
import math
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import wave
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

MUSIC = {
    "wesnoth-1.16-music": "wesnoth",
    "warzone2100-music": "warzone",
    "drascula-music": "drascula",
    "singularity-music": "singularity",
    "hyperrogue-music": "hyperrogue",
    "unknown-horizons": "horizons",
    "colobot-common-sounds": "colobot",
    "asc-music": "asc",
}
UNHEARD = {
    "ufoai-music": "ufoai",
    "nexuiz-music": "nexuiz",
    "supertuxkart-data": "supertuxkart",
    "widelands-data": "widelands",
    "freedroidrpg-data": "freedroid",
    "fretsonfire-songs-muldjord": "muldjord",
    "fretsonfire-songs-sectoid": "sectoid",
    "marsshooter-data": "marsshooter",
    "ardentryst": "ardentryst",
    "fillets-ng-data": "fillets",
    "flare-game": "flare",
    "starfighter-data": "starfighter",
    "planetblupi-music-ogg": "blupi",
    "extremetuxracer-data": "tuxracer",
    "btanks-data": "btanks",
    "zaz-data": "zaz",
    "lincity-ng-data": "lincity",
}
# What lies beside the music of games (speech, engines, thunder), and a file of silence.
EFFECTS = re.compile(r"/(sounds|sfx|soundfx|library|titles|tracks)/|/thunder\.|/coyote_00\.", re.IGNORECASE)
PROMPTS = {f"asterisk-core-sounds-{lang}-wav": lang for lang in ("en", "es", "fr", "it", "ru")}
LETTERS = "klettres-data"
WORDS = "ktuberling-data"
SOUND_FONT = "fluid-soundfont-gm"

RATE_HZ = 32_000
LONGEST_S = 60
# Pieces that are shorter are jingles.
TRACK_S = 45
# Of the 128 instruments of General MIDI the last ones are gun shots, birds, telephones, applause.
INSTRUMENTS = 122
# Standard, room, power, electronic, TR-808, jazz, brush, orchestra.
DRUM_KITS = [0, 8, 16, 24, 25, 32, 40, 48]
MORSE_RECORDINGS = 12
SOUND = re.compile(r"\.(ogg|wav|mp3|opus)$", re.IGNORECASE)
TOOLS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "ffmpeg": "ffmpeg",
    "ffprobe": "ffmpeg",
    "fluidsynth": "fluidsynth",
}
# Prompts that are no speech.
NO_SPEECH = re.compile(r"beep|tone|silence|monkey|weasel|screw|lots-o|moo|dog|jingle|tt-")


def run(command, what, folder=None):
    """Runs a program, which is quiet unless it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["it does not say why"]
        raise RuntimeError(f"{what}: {command[0]} failed: {last[0]}")


def fetch(packages, folder):
    """Downloads Debian packages and unpacks each into a folder of its own name."""
    run(["apt-get", "download", *packages], "packages of Debian 12, after apt-get update", folder)
    for package in packages:
        (archive,) = folder.glob(f"{package}_*.deb")
        run(["dpkg-deb", "-x", archive, folder / package], archive.name)
        archive.unlink()
        for pack in sorted((folder / package).rglob("*.pk3")):
            try:
                with zipfile.ZipFile(pack) as members:
                    members.extractall(pack.with_suffix(""))
            except zipfile.BadZipFile as error:
                raise RuntimeError(f"{pack.name} of {package}: {error}") from error


def sounds_in(folder):
    """The audio files of a folder, searched to its depths, in the order of their paths. Links are
    second names of the same."""
    found = (path for path in folder.rglob("*") if SOUND.search(path.name))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def encode(inputs, target, extra=()):
    """Mono Ogg Vorbis at RATE_HZ; the file appears when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    form = ["-ac", "1", "-ar", str(RATE_HZ), "-c:a", "libvorbis", "-q:a", "5", "-f", "ogg"]
    # Without it every file has a serial number of its own.
    same = ["-map_metadata", "-1", "-fflags", "+bitexact"]
    run(["ffmpeg", "-v", "error", "-y", *inputs, *extra, *form, *same, part], target.name)
    part.rename(target)


def seconds(path):
    """How long a file lasts; 0 if nobody can say."""
    ask = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    return float(answer) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", answer) else 0.0


def tracks(packages, names, out, cut):
    """A minute of each track, by `cut`; of one over 80 s without its beginning, which may be silence."""
    for package, name in names.items():
        for path in sounds_in(packages / package):
            duration_s = seconds(path)
            is_effect = EFFECTS.search(str(path.relative_to(packages)))
            if duration_s < TRACK_S or is_effect:
                continue
            title = path.stem.lower()
            if title in ("song", "guitar"):
                title = f"{path.parent.name.lower()}-{title}"
            stem = re.sub(r"[^a-z0-9]+", "-", title).strip("-")
            start_s = 0.15 * duration_s if duration_s > 80 else 0.0
            part = ["-ss", f"{start_s:.2f}", "-t", str(LONGEST_S), "-i", path]
            yield partial(cut, part, out / f"{name}-{stem}.ogg")


def music(packages, out):
    """The music to learn from."""
    return tracks(packages, MUSIC, out / "music", encode)


def unheard(packages, out):
    """The music to measure by."""

    def by_way_of_samples(part, target):
        # Where some tracks are cut, their times jump. Three of those to learn from have that, too, but they
        # are to stay as they were learned from.
        sound = packages / f"{target.stem}.wav"
        run(["ffmpeg", "-v", "error", *part, "-c:a", "pcm_f32le", sound], target.name)
        encode(["-i", sound], target)
        sound.unlink()

    return tracks(packages, UNHEARD, out / "unheard", by_way_of_samples)


def variable_length(number):
    """A number as MIDI files write it: 7 bits a byte, all but the last with the highest bit."""
    digits = [number & 127]
    while number := number >> 7:
        digits.insert(0, number & 127 | 128)
    return bytes(digits)


# A beat is half a second, the default of MIDI files.
TICKS_A_BEAT = 480
SCALES = [[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 3, 5, 7, 10], [0, 2, 4, 6, 8, 10]]
STEPS = [-2, -1, -1, 0, 1, 1, 2, 3, -3]


def phrase(style, start, draw):
    """Events of a melody of nine seconds, as (tick, whether a note begins, bytes)."""
    events, tick = [], start
    scale = draw.choice(SCALES)
    base = {"low": 36, "high": 72}.get(style, 48) + draw.randrange(12)
    degree = draw.randrange(7)
    while tick < start + 9_000:
        of_style = {
            "slow": draw.choice([960, 1_440, 1_920]),
            "fast": draw.choice([120, 160, 240]),
        }
        ticks = of_style.get(style, draw.choice([240, 480, 480, 960]))
        degree = max(-3, min(14, degree + draw.choice(STEPS)))
        note = base + 12 * (degree // 7) + scale[degree % len(scale)]
        is_chord = style == "chords" or (style == "mixed" and draw.random() < 0.4)
        notes = [note, note + draw.choice([3, 4]), note + 7] if is_chord else [note]
        velocity = draw.randrange(45, 118)
        length = int(ticks * draw.choice([0.4, 0.7, 0.95]))
        if draw.random() < 0.88:
            for key in (max(21, min(108, note)) for note in notes):
                events.append((tick, 1, bytes([0x90, key, velocity])))
                events.append((tick + length, 0, bytes([0x80, key, 0])))
        tick += ticks
    return events


def midi(program, events, channel=0):
    """A MIDI file with the events of one instrument, sorted."""
    track, last = b"\0" + bytes([0xC0 | channel, program]), 0
    for tick, _, message in events:
        track += variable_length(tick - last) + message
        last = tick
    track += variable_length(960) + b"\xff\x2f\0"
    head = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_A_BEAT)
    return head + b"MTrk" + struct.pack(">I", len(track)) + track


def melody(draw):
    """A minute of one instrument, in six manners."""
    styles = ["slow", "fast", "chords", "low", "high", "mixed"]
    draw.shuffle(styles)
    events = [event for n, style in enumerate(styles) for event in phrase(style, n * 9_600, draw)]
    return sorted(events, key=lambda event: event[:2])


def rhythm(draw):
    """A minute of drums: six patterns of a bar, each repeated with changes."""
    events = []
    for start in range(0, 57_600, 9_600):
        step = draw.choice([80, 120, 160, 240])
        keys = [draw.choice([35, 36, 38, 40]), *draw.sample(range(37, 82), draw.randint(1, 4))]
        odds = [draw.choice([0.05, 0.15, 0.3]) for _ in keys]
        bar = [[key for key, odd in zip(keys, odds) if draw.random() < odd] for _ in range(16)]
        for n, tick in enumerate(range(start, start + draw.choice([4_800, 9_000]), step)):
            changed = [draw.choice(keys)] if draw.random() < 0.1 else []
            for key in bar[n % len(bar)] + changed:
                events.append((tick, 1, bytes([0x99, key, draw.randrange(50, 127)])))
                events.append((tick + 60, 0, bytes([0x89, key, 0])))
    return sorted(events, key=lambda event: event[:2])


def play(packages, name, notes, target):
    """Renders a MIDI file with the sound font."""
    font = packages / SOUND_FONT / "usr/share/sounds/sf2/FluidR3_GM.sf2"
    score, sound = (packages / f"{name}{end}" for end in (".mid", ".wav"))
    score.write_bytes(notes)
    options = ["-ni", "-q", "-r", "44100", "-g", "0.7", "-F", sound]
    run(["fluidsynth", *options, font, score], name)
    encode(["-t", str(LONGEST_S), "-i", sound], target)
    score.unlink()
    sound.unlink()


def instruments(packages, out):
    """Each instrument by itself: what it plays is drawn."""

    def record(program, name, target):
        notes = midi(program, melody(random.Random(1_000 + program)))
        play(packages, name, notes, target)

    for program in range(INSTRUMENTS):
        name = f"gm{program:03}"
        target = out / "instruments" / f"{name}.ogg"
        yield partial(record, program, name, target)


def drums(packages, out):
    """Drum kits, two recordings each."""

    def record(kit, number, name, target):
        notes = midi(kit, rhythm(random.Random(5_000 + number)), channel=9)
        play(packages, name, notes, target)

    for number, kit in enumerate(2 * DRUM_KITS):
        name = f"drums{number:02}"
        target = out / "drums" / f"{name}.ogg"
        yield partial(record, kit, number, name, target)


def voices(packages):
    """Recordings of one voice, or of a few in one language, by name."""
    groups = {}
    for package, language in PROMPTS.items():
        found = sounds_in(packages / package)
        prompts = [path for path in found if not NO_SPEECH.search(str(path.relative_to(packages)))]
        groups.update({f"asterisk-{language}-{part}": prompts for part in range(6)})
    for folder in (packages / LETTERS / "usr/share/klettres").iterdir():
        letters = sounds_in(folder / "alpha") + sounds_in(folder / "syllab")
        if len(letters) > 15:
            groups[f"klettres-{folder.name}"] = letters
    for folder in (packages / WORDS / "usr/share/ktuberling/sounds").iterdir():
        words = sounds_in(folder)
        # Those with an @ are copies; wa ends in the middle of a word.
        if len(words) > 40 and "@" not in folder.name and folder.name != "wa":
            groups[f"ktuberling-{folder.name}"] = words
    return groups


def speech(packages, out):
    """Words and prompts one after the other, with pauses."""

    def join(words, draw, target):
        inputs, graph = [], ""
        for n, path in enumerate(words):
            inputs += ["-i", path]
            pause_s = draw.choice([0.1, 0.2, 0.4, 0.8])
            graph += f"[{n}:a]aresample={RATE_HZ},aformat=channel_layouts=mono,"
            graph += f"apad=pad_dur={pause_s}[a{n}];"
        graph += "".join(f"[a{n}]" for n in range(len(words)))
        graph += f"concat=n={len(words)}:v=0:a=1[o]"
        encode(inputs, target, ["-filter_complex", graph, "-map", "[o]", "-t", str(LONGEST_S)])

    for name, words in sorted(voices(packages).items()):
        draw = random.Random(name)
        draw.shuffle(words := list(words))
        target = out / "speech" / f"{name}.ogg"
        yield partial(join, words[:60], draw, target)


CODE = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        (
            ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- "
            ".-- -..- -.-- --.. ----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----."
        ).split(),
        strict=True,
    )
)


def code(draw):
    """A minute of Morse code at 16 bits, at a pitch, a speed and in a noise that are drawn."""
    unit_s = 1.2 / draw.uniform(8, 28)
    pitch_hz = draw.uniform(380, 1_100)
    noise = draw.choice([0, 30, 300, 1_500])
    edge = int(draw.choice([0.0005, 0.003, 0.006]) * RATE_HZ)
    samples, wanted = array.array("h"), LONGEST_S * RATE_HZ
    phase, step = 0.0, 2 * math.pi * pitch_hz / RATE_HZ

    def add(is_on, units):
        nonlocal phase
        count = int(units * unit_s * RATE_HZ)
        for n in range(count):
            level = min(1, n / edge, (count - n) / edge) * 9_000 if is_on else 0
            phase += step
            value = level * math.sin(phase) + draw.gauss(0, noise)
            samples.append(int(max(-32_000, min(32_000, value))))

    while len(samples) < wanted:
        for _ in range(draw.randint(1, 7)):
            for sign in CODE[draw.choice(list(CODE))]:
                add(True, 1 if sign == "." else 3)
                add(False, 1)
            add(False, 2)
        add(False, draw.choice([4, 4, 4, 12]))
    return samples[:wanted].tobytes()


def morse(packages, out):
    """Morse code, calculated."""

    def key(number, target):
        sound = packages / f"morse{number:02}.wav"
        with wave.open(str(sound), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes(code(random.Random(77 + number)))
        encode(["-i", sound], target)
        sound.unlink()

    for number in range(MORSE_RECORDINGS):
        target = out / "morse" / f"morse{number:02}.ogg"
        yield partial(key, number, target)


KINDS = (music, instruments, drums, speech, morse)


def make(names, kinds, out):
    """Makes recordings of these kinds out of packages, as many at once as there are cores. The first
    failure ends it."""
    with tempfile.TemporaryDirectory(prefix="negatives-") as folder:
        packages = Path(folder)
        fetch(names, packages)
        wanted = [one for kind in kinds for one in kind(packages, out)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for made in [pool.submit(one) for one in wanted]:
                    made.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return len(wanted)


def main():
    about, _, more = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=about, epilog=more.partition("\n\n")[2])
    parser.add_argument("--unheard", action="store_true", help="music to measure by, of other packages")
    parser.add_argument("dir", metavar="DIR", type=Path, help="where the recordings are to be")
    order = parser.parse_args()
    out = order.dir.resolve()
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if missing:
        sys.exit(f"missing programs; install them: sudo apt-get install {' '.join(missing)}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        names, kinds = [*MUSIC, *PROMPTS, LETTERS, WORDS, SOUND_FONT], KINDS
        if order.unheard:
            names, kinds = [*UNHEARD], (unheard,)
        print(f"{make(names, kinds, out)} recordings in {out}")
    except (OSError, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
