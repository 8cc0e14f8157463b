"""Least-squares fit of a head's components to given displacements of its vertices."""

from __future__ import annotations

import numpy as np

RIDGE = 1e-4  # damping of the least squares, relative to the largest component: keeps coefficients small


def fitted_components(basis: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(N,K) coefficients of components `basis` (K,M) for displacements `offsets` (N,M), by least squares with a small ridge."""
    normal = basis @ basis.T
    normal[np.diag_indices_from(normal)] += RIDGE * normal.diagonal().max(initial=1e-12)
    return np.linalg.solve(normal, basis @ offsets.T).T
