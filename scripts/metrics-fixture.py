"""Writes the scikit-learn fixture of crates/metrics; run through metrics-fixture.sh.

Distances and coordinates are integers small enough for f32 to hold them and their squared Euclidean
distances exactly, so both sides see the same values and the same ties.
"""

import json
import platform
import sys

import numpy as np
import sklearn
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    roc_auc_score,
    roc_curve,
)
from sklearn.neighbors import NearestNeighbors


def verification(name, distances, same):
    """ROC figures of `distances`; smaller means more similar."""
    far, tar, scores = roc_curve(same, -distances, drop_intermediate=False)
    frr = 1 - tar
    # The equal error rate, interpolated linearly between the two points of the curve around it.
    gap = far - frr
    above = int(np.argmax(gap >= 0))
    below = above - 1
    weight = -gap[below] / (gap[above] - gap[below])
    thresholds = -scores
    return {
        "name": name,
        "distances": distances.tolist(),
        "same": same.tolist(),
        "auc": roc_auc_score(same, -distances),
        # The first point accepts nothing; scikit-learn gives it an infinite score.
        "thresholds": thresholds[1:].tolist(),
        "far": far.tolist(),
        "tar": tar.tolist(),
        "eer": far[below] + weight * (far[above] - far[below]),
        "eer_threshold": (
            thresholds[below] + weight * (thresholds[above] - thresholds[below])
            if below > 0
            else thresholds[above]
        ),
        "best_balanced_accuracy": max(
            balanced_accuracy_score(same, distances <= t) for t in thresholds
        ),
    }


def neighbours(references, queries=None):
    """Indices of the references from near to far; equal distances are ranked by index.

    Without `queries`, each reference is a query that does not find itself.
    """
    found = len(references) - (queries is None)
    search = NearestNeighbors(n_neighbors=found, algorithm="brute").fit(references)
    distances, indices = search.kneighbors(queries)
    order = np.lexsort((indices, distances), axis=1)
    return np.take_along_axis(indices, order, axis=1)


def retrieval(name, embeddings, labels):
    """P@1, R-precision and MAP@R of Musgrave, Belongie and Lim (2020), each point in turn as the probe."""
    p_at_1, r_precision, average_precision = [], [], []
    for query, ranked in enumerate(neighbours(embeddings)):
        r = np.count_nonzero(labels == labels[query]) - 1
        if r == 0:
            continue
        hit = labels[ranked[:r]] == labels[query]
        precision_at_i = np.cumsum(hit) / np.arange(1, r + 1)
        p_at_1.append(hit[0])
        r_precision.append(np.mean(hit))
        average_precision.append(np.sum(precision_at_i * hit) / r)
    return {
        "name": name,
        "dim": embeddings.shape[1],
        "embeddings": embeddings.ravel().tolist(),
        "labels": labels.tolist(),
        "queries": len(p_at_1),
        "p_at_1": np.mean(p_at_1),
        "r_precision": np.mean(r_precision),
        "map_at_r": np.mean(average_precision),
    }


def against(name, queries, query_labels, references, reference_labels):
    """Fraction of queries whose nearest reference has their label."""
    nearest = neighbours(references, queries)[:, 0]
    return {
        "name": name,
        "dim": queries.shape[1],
        "queries": queries.ravel().tolist(),
        "query_labels": query_labels.tolist(),
        "references": references.ravel().tolist(),
        "reference_labels": reference_labels.tolist(),
        "p_at_1": accuracy_score(query_labels, reference_labels[nearest]),
    }


def shrinkage(name, features, labels):
    """The Ledoit-Wolf weight of the deviations from the class means, N - C of which are free.

    The features are stretched, a dimension more than the one before, so that they vary unequally.
    """
    features = features * np.arange(1, features.shape[1] + 1)
    deviations = features.astype(float)
    classes = np.unique(labels)
    for label in classes:
        deviations[labels == label] -= deviations[labels == label].mean(axis=0)
    weight = ledoit_wolf_shrinkage(deviations, assume_centered=True)
    return {
        "name": name,
        "dim": features.shape[1],
        "features": features.ravel().tolist(),
        "labels": labels.tolist(),
        "shrinkage": min(1.0, weight * len(labels) / (len(labels) - len(classes))),
    }


def pairs(rng, count, share_same, levels, shift):
    """Pairs whose distances take about `levels` values; similar pairs are nearer by `shift`."""
    same = rng.random(count) < share_same
    distances = rng.normal(np.where(same, 0.5 - shift, 0.5 + shift), 0.15)
    return np.rint(np.clip(distances, 0, 1) * levels).astype(int), same


def clusters(rng, sizes, dim, spread, extent):
    """Gaussian classes of the given sizes around centres in [-extent, extent]^dim, shuffled."""
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = rng.uniform(-extent, extent, (len(sizes), dim))
    return np.rint(rng.normal(centres[labels], spread)).astype(int), labels


def main(path):
    rng = np.random.default_rng(20200318)
    gallery = clusters(rng, [30, 30, 30, 30], 3, 60, 150)
    probes = slice(0, 40)
    rest = slice(40, None)
    fixture = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit_learn": sklearn.__version__,
        "verification": [
            verification("few ties, balanced", *pairs(rng, 300, 0.5, 1_000_000, 0.15)),
            verification("many ties, balanced", *pairs(rng, 400, 0.5, 12, 0.1)),
            verification("few ties, one in ten same", *pairs(rng, 300, 0.1, 1_000_000, 0.1)),
            verification("many ties, nine in ten same", *pairs(rng, 400, 0.9, 20, 0.05)),
            verification("uninformative", *pairs(rng, 200, 0.5, 1_000, 0.0)),
            verification("worse than chance", *pairs(rng, 100, 0.4, 1_000, -0.1)),
            verification("separable", *pairs(rng, 60, 0.5, 1_000, 0.5)),
        ],
        "retrieval": [
            retrieval("2-D, overlapping", *clusters(rng, [40, 40, 40, 40], 2, 150, 400)),
            retrieval("2-D, many ties", *clusters(rng, [30, 50, 40], 2, 2, 3)),
            retrieval("8-D, unequal classes", *clusters(rng, [1, 2, 5, 30, 60, 1], 8, 80, 100)),
        ],
        "against": [
            against(
                "3-D, held-out probes",
                gallery[0][probes],
                gallery[1][probes],
                gallery[0][rest],
                gallery[1][rest],
            )
        ],
        "shrinkage": [
            shrinkage("many of few dimensions", *clusters(rng, [40, 50, 60], 5, 30, 100)),
            shrinkage("two of each class", *clusters(rng, [2] * 15, 6, 30, 100)),
            shrinkage("as many dimensions", *clusters(rng, [8, 9, 10], 20, 30, 100)),
        ],
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(fixture, file, separators=(",", ":"))
        file.write("\n")


main(sys.argv[1])
