"""Identity: the principal components of a drawn population of adults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from source import Source

POPULATION = 3000
# Standard deviation of a local change, whose limits are -1 and 1. Those of the whole skull soon look odd.
LOCAL_SPREAD = 0.22
SKULL_SPREAD = 0.12
SKULL = ("head-", "forehead-", "neck-")
ASYMMETRY = 0.12  # share of a left-right change that the two sides do not share


@dataclass(frozen=True)
class Identity:
    """mean (V, 3), directions (C, V, 3), both also for the rig's bone heads: (B, 3) and (C, B, 3)."""

    mean: np.ndarray
    directions: np.ndarray
    bones_mean: np.ndarray
    bones_directions: np.ndarray
    explained: float  # share of the population's variance


def build(source: Source, components: int, seed: int) -> Identity:
    """Principal components of a population of adults, each scaled so that coefficient 1 is one standard deviation."""
    used, weights = population(source, np.random.default_rng(seed))
    count, joints = len(source.vertices), len(source.bone_names)
    flat = np.concatenate([source.targets[used], source.bone_head_targets[used]], 1).reshape(len(used), -1)
    base = np.concatenate([source.vertices, source.bone_heads]).ravel()
    people = (base + weights @ flat).reshape(len(weights), count + joints, 3)
    # Height and posture of the body are not the head's: every head is laid on the base head, by its skull.
    align(people, source)

    mean = people.mean(0)
    spread = (people - mean).reshape(len(people), -1)
    # Every square millimetre of skin counts the same, however densely it is meshed; bones follow, they do not lead.
    importance = np.concatenate([vertex_areas(source), np.zeros(joints)]) ** 0.5
    weighted = spread * np.repeat(importance, 3)
    values, vectors = np.linalg.eigh(weighted @ weighted.T)
    order = np.argsort(values)[::-1][:components]
    scores = vectors[:, order] * np.sqrt(len(people))
    scores *= np.where(np.sum(scores**3, 0) < 0, -1.0, 1.0)  # a sign that does not depend on the solver
    directions = (scores.T @ spread / len(people)).reshape(components, count + joints, 3)
    return Identity(
        mean=mean[:count],
        directions=directions[:, :count],
        bones_mean=mean[count:],
        bones_directions=directions[:, count:],
        explained=float(values[order].sum() / values.sum()),
    )


def population(source: Source, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Adults: ids of the targets used (K',) and their weights (N, K')."""
    n = POPULATION

    def normal(spread: float) -> np.ndarray:
        return np.clip(rng.normal(0.5, spread, n), 0, 1)

    origin = rng.dirichlet(np.ones(3), n)
    values = {
        "gender": rng.beta(0.7, 0.7, n),
        "age": 0.62 + 0.38 * rng.beta(1.2, 1.8, n),  # 1/3 is a child, 2/3 a young adult, 1 is old
        "muscle": normal(0.16),
        "weight": normal(0.16),
        "height": normal(0.12),
        "proportions": normal(0.2),
        "cupsize": np.full(n, 0.5),
        "firmness": np.full(n, 0.5),
        "african": origin[:, 0],
        "asian": origin[:, 1],
        "caucasian": origin[:, 2],
    }
    phenotype = source.phenotype_weights(values)
    local = np.zeros((n, len(source.local_pairs), 2))
    change = local_changes(source, rng)
    local[..., 0], local[..., 1] = np.maximum(change, 0), np.maximum(-change, 0)
    ids = np.concatenate([np.arange(phenotype.shape[1]), source.local_pairs.ravel()])
    return ids, np.concatenate([phenotype, local.reshape(n, -1)], 1)


def local_changes(source: Source, rng: np.random.Generator) -> np.ndarray:
    """Normal local changes (N, P), cut at 2.5 standard deviations, the left and the right ones nearly the same."""
    names = [source.target_names[more].split(":")[1] for more, _ in source.local_pairs]
    change = rng.normal(size=(POPULATION, len(names)))
    for i, name in enumerate(names):
        if name.startswith("r-"):
            twin = change[:, names.index("l-" + name[2:])]
            change[:, i] = np.sqrt(1 - ASYMMETRY**2) * twin + ASYMMETRY * change[:, i]
    spread = np.array([SKULL_SPREAD if name.startswith(SKULL) else LOCAL_SPREAD for name in names])
    return np.clip(change, -2.5, 2.5) * spread


def align(people: np.ndarray, source: Source) -> None:
    """Lays people (N, V + B, 3) on the base head in place: rotation and translation that fit the vertices of the head bone."""
    skull = np.flatnonzero(source.bone_weights[:, source.bone_names.index("head")] > 0.9)
    target = source.vertices[skull]
    centre = people[:, skull].mean(1, keepdims=True)
    covariance = np.einsum("nvi,vj->nij", people[:, skull] - centre, target - target.mean(0))
    u, _, vt = np.linalg.svd(covariance)
    u[:, :, 2] *= np.linalg.det(u @ vt)[:, None]
    people -= centre
    for i in range(len(people)):
        people[i] = people[i] @ (u[i] @ vt[i])
    people += target.mean(0)


def vertex_areas(source: Source) -> np.ndarray:
    """Area around each vertex of the base head (V,), mean 1."""
    quads = np.concatenate(list(source.quads.values()))
    p = source.vertices[quads]
    area = 0.5 * np.linalg.norm(np.cross(p[:, 2] - p[:, 0], p[:, 3] - p[:, 1]), axis=1)
    areas = np.zeros(len(source.vertices))
    np.add.at(areas, quads, area[:, None] / 4)
    return areas / areas.mean()
