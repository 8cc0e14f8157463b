"""Normal equations of many frames, each tied to its neighbours, that share a few unknowns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(eq=False)
class FrameEquations:
    """T frames of P unknowns that share S more: the quadratic form round the present values.

    Attributes:
        matrix: (T,P,P) of each frame.
        ties: (T-1,P) strength of the tie to the next frame: minus what stands between the two.
        mixed: (T,P,S) between a frame and the shared unknowns.
        gradient: (T,P).
    """

    matrix: np.ndarray
    ties: np.ndarray
    mixed: np.ndarray
    gradient: np.ndarray

    def eliminate(self, damping: float) -> Eliminated:
        """Solves for the frames as a function of the shared unknowns.

        Args:
            damping: Levenberg's and Marquardt's: the share by which the diagonal is raised.

        Raises:
            numpy.linalg.LinAlgError: where the equations are not positive definite.
        """
        diagonal = np.arange(self.gradient.shape[1])
        inverses = np.empty_like(self.matrix)
        solved = np.concatenate([self.gradient[..., None], self.mixed], 2)
        for t in range(len(self.gradient)):
            matrix = self.matrix[t].copy()
            matrix[diagonal, diagonal] *= 1 + damping
            if t:
                tie = self.ties[t - 1][:, None]
                matrix -= tie * inverses[t - 1] * tie.T
                solved[t] += tie * solved[t - 1]
            inverses[t] = inverse(matrix)
            solved[t] = inverses[t] @ solved[t]
        for t in range(len(self.gradient) - 2, -1, -1):
            solved[t] += inverses[t] @ (self.ties[t][:, None] * solved[t + 1])
        alone, by_shared = solved[..., 0], solved[..., 1:]
        sums = _over_frames(self.mixed, solved)
        return Eliminated(alone, by_shared, sums[:, 1:], sums[:, 0])


@dataclass(frozen=True, eq=False)
class Eliminated:
    """Frames as a function of what they share.

    Attributes:
        alone: (T,P); by_shared: (T,P,S).
        matrix: (S,S) and gradient: (S,), to be subtracted from those of the shared unknowns (the Schur complement).
    """

    alone: np.ndarray
    by_shared: np.ndarray
    matrix: np.ndarray
    gradient: np.ndarray

    def step(self, shared: np.ndarray) -> np.ndarray:
        """The frames' step (T,P) that belongs to a step of the shared unknowns (S,)."""
        return -(self.alone + self.by_shared @ shared)


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Of a symmetric, positive definite matrix. By torch: numpy's and scipy's threads wait for one another on small ones."""
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(matrix))
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    return torch.cholesky_inverse(factor).numpy()


def _over_frames(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(S,R) sums over frames and their unknowns of products of (T,P,S) and (T,P,R)."""
    flat = torch.from_numpy(left).flatten(0, 1)
    return (flat.T @ torch.from_numpy(np.ascontiguousarray(right)).flatten(0, 1)).numpy()
