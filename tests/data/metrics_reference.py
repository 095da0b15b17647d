"""Figures of scikit-learn for src/network/metrics.rs, written to metrics_reference.json beside it.

Made with scikit-learn 1.9.1 and numpy 2.4.6: python metrics_reference.py
"""

import json
from pathlib import Path

import numpy as np
from sklearn import metrics
from sklearn.calibration import calibration_curve


def case(name, random, clips, classes, used, labels_a_clip, decimals):
    """Clips with labels among the `used` classes; rounding to few decimals makes ties."""
    labels = [
        sorted(random.choice(used, size=random.choice(labels_a_clip), replace=False).tolist())
        for _ in range(clips)
    ]
    truth = np.zeros((clips, classes), dtype=int)
    for clip, of_clip in enumerate(labels):
        truth[clip, of_clip] = 1
    scores = np.round(np.clip(random.random((clips, classes)) * 0.7 + 0.3 * truth, 0, 1), decimals)
    scores = scores.astype(np.float32)
    precision = [
        metrics.average_precision_score(truth[:, k], scores[:, k]) if truth[:, k].any() else None
        for k in range(classes)
    ]
    frequency, score = calibration_curve(
        truth.ravel(), scores.astype(float).ravel(), n_bins=10, strategy="uniform"
    )
    found = {
        "name": name,
        "scores": [[round(float(s), 4) for s in row] for row in scores],
        "labels": labels,
        "average_precision": precision,
        "mean_average_precision": float(np.mean([p for p in precision if p is not None])),
        "reliability": [list(pair) for pair in zip(frequency.tolist(), score.tolist())],
        "single": None,
    }
    if labels_a_clip == [1]:
        true, named = truth.argmax(axis=1), scores.argmax(axis=1)
        every = list(range(classes))
        each = metrics.precision_recall_fscore_support(true, named, labels=every, zero_division=0)
        found["single"] = {
            "accuracy": metrics.accuracy_score(true, named),
            "macro_f1": metrics.f1_score(
                true, named, labels=np.unique(true), average="macro", zero_division=0
            ),
            "confusion": metrics.confusion_matrix(true, named, labels=every).tolist(),
            "precision": each[0].tolist(),
            "recall": each[1].tolist(),
            "f1": each[2].tolist(),
        }
    return found


def main():
    random = np.random.default_rng(20240611)
    cases = [
        case("one label, few ties", random, 40, 5, range(5), [1], 4),
        case("one label, many ties", random, 60, 4, range(4), [1], 1),
        case("one label, absent classes", random, 30, 6, [0, 2, 5], [1], 2),
        case("several labels or none", random, 50, 5, range(5), [0, 1, 2, 3], 2),
        case("several labels, an absent class, ties", random, 40, 4, [0, 1, 3], [0, 2], 1),
    ]
    path = Path(__file__).with_suffix(".json")
    path.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()
