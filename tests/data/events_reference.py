"""Writes events_reference.json: event lists, and what sed_eval and numpy make of them.

    pip install sed_eval==0.2.1
    python events_reference.py > events_reference.json

Onset only, collar 1 s, optimal matching: `src/evaluate/events.rs` is checked against these figures.
"""

import json
import random
import sys

import numpy
import sed_eval
from dcase_util.containers import MetaDataContainer

CLASSES = ["siren", "dog", "rain"]
RECORDINGS = 8
SECONDS = 60.0
COLLAR_S = 1.0


def events(rng, count):
    """Dense enough that one onset is within the collar of several others; in quarter seconds,
    so that the collar's edge means the same in every arithmetic."""
    made = []
    for _ in range(count):
        onset = rng.randrange(int(SECONDS) * 4) / 4
        made.append([rng.randrange(len(CLASSES)), onset, onset + rng.randint(1, 16) / 4])
    return made


def container(recording, name):
    rows = [
        {"file": name, "event_label": CLASSES[label], "onset": onset, "offset": offset}
        for label, onset, offset in recording
    ]
    return MetaDataContainer(rows)


def main():
    rng = random.Random(20)
    recordings = []
    metrics = sed_eval.sound_event.EventBasedMetrics(
        event_label_list=CLASSES,
        t_collar=COLLAR_S,
        evaluate_onset=True,
        evaluate_offset=False,
        event_matching_type="optimal",
    )
    for number in range(RECORDINGS):
        reference = events(rng, rng.randint(5, 60))
        estimated = events(rng, rng.randint(5, 60))
        recordings.append({"reference": reference, "estimated": estimated})
        name = f"{number}.wav"
        metrics.evaluate(container(reference, name), container(estimated, name))
    figures = []
    for name in CLASSES:
        found = metrics.results_class_wise_metrics()[name]
        figures.append({
            "events": int(found["count"]["Nref"]),
            "reports": int(found["count"]["Nsys"]),
            "precision": found["f_measure"]["precision"],
            "recall": found["f_measure"]["recall"],
            "f1": found["f_measure"]["f_measure"],
        })
    values = [round(rng.gauss(1, 0.4), 3) for _ in range(38)]
    quantiles = {
        "values": values,
        "median": float(numpy.quantile(values, 0.5)),
        "p95": float(numpy.quantile(values, 0.95)),
    }
    json.dump({"recordings": recordings, "classes": figures, "quantiles": quantiles}, sys.stdout)


if __name__ == "__main__":
    main()
