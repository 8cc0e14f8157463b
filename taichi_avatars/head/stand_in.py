"""The built-in head carried over to another one by correspondence: its regions, its identities and its expressions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.head.correspondence import Correspondence, correspond
from taichi_avatars.head.fitting import fitted_components
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.pose import HeadPose
from taichi_avatars.head.sequence import FlameSequence

JAW_STEP = 0.1  # radians: a turn of the jaw so small that vertices move straight on, and about as far as by expressions


@dataclass(frozen=True, eq=False)
class StandIn:
    """A head that takes the built-in head's place.

    Attributes:
        head: with the built-in head's regions besides its own.
        faces: (40,S) what each identity component of the built-in head is on this one.
        units: (55,E), or (55,E+3) with a jaw joint: what each expression unit and a turn of the jaw by `JAW_STEP` about each
            axis is on this one, expressions and then such turns.
    """

    head: FlameModel
    faces: Tensor
    units: Tensor

    def shape(self, shape: Tensor) -> Tensor:
        """Identity coefficients (S,) of the person who has `shape` (40,) on the built-in head."""
        return shape @ self.faces

    def motion(self, motion: FlameSequence) -> FlameSequence:
        """A motion of the built-in head as one of this head; turns of joints that it lacks are left out."""
        head = self.head
        assert motion.jaw_pose is not None
        moved = torch.cat([motion.expr, motion.jaw_pose / JAW_STEP], 1) @ self.units
        keys = {part.key for part in head.parts}
        held = {key: getattr(motion, key) if key in keys else None for key in ("neck_pose", "eyes_pose")}
        jaw = JAW_STEP * moved[:, head.n_expr :] if "jaw_pose" in keys else None
        return replace(motion, shape=self.shape(motion.shape), expr=moved[:, : head.n_expr], jaw_pose=jaw, **held)


def stand_in(head: FlameModel) -> StandIn:
    """Carries the built-in head over to `head`.

    Regions are those that lie nearest, where the head names none of its own. Expression units are components of the same name,
    where there are such, else, as are identities, the sum of components that moves the vertices most nearly alike.

    Raises:
        UserError: for a head that this cannot be done with: without eyes, or turned or scaled.
    """
    own, head = FlameModel.builtin(), _with_eyes(head)
    found = correspond(head, own)
    faces = fitted_components(_rows(head.shapedirs.permute(2, 0, 1)), _rows_of(found, own.shapedirs.permute(2, 0, 1)))
    units = _units(head, own, found)
    regions = {name: ids for name, region in own.regions.items() if len(ids := _region(found, own, region))}
    return StandIn(head.with_regions(regions | head.regions), torch.from_numpy(faces).float(), units)


def expression_units(head: FlameModel) -> Tensor:
    """The `StandIn.units` of a head alone.

    Raises:
        UserError: as `stand_in` does.
    """
    own, head = FlameModel.builtin(), _with_eyes(head)
    return _units(head, own, correspond(head, own))


def _units(head: FlameModel, own: FlameModel, found: Correspondence) -> Tensor:
    components = torch.cat([head.exprdirs(), jaw_turns(head)])
    units = fitted_components(_rows(components), _rows_of(found, torch.cat([own.exprdirs(), jaw_turns(own)])))
    names, of_head = own.expression_names or [], head.expression_names or []
    for row, name in enumerate(names):
        if name in of_head:
            units[row] = 0.0
            units[row, of_head.index(name)] = 1.0
    return torch.from_numpy(units).float()


def _with_eyes(head: FlameModel) -> FlameModel:
    """The head with its eyeballs among its regions."""
    if "left eye" not in head.roles:
        raise UserError(f"this head has no eyes, only {', '.join(head.roles)}: a face needs some; give another head")
    return head.with_regions(_eyes(head) | head.regions)


def _eyes(head: FlameModel) -> dict[str, Tensor]:
    """The eyeballs: what turns with their joints."""
    names = {"eye_left": "left eye", "eye_right": "right eye"}
    return {name: (head.rig.weights[:, head.roles.index(role)] > 0.5).nonzero()[:, 0] for name, role in names.items()}


def jaw_turns(head: FlameModel) -> Tensor:
    """(3,V,3) metres: how a turn of the jaw by `JAW_STEP` about each axis moves vertices; (0,V,3) without a jaw."""
    if "jaw" not in head.roles:
        return torch.zeros(0, head.num_vertices, 3)
    rest = head.shaped()
    return head.pose(rest, HeadPose(jaw=JAW_STEP * torch.eye(3))).vertices - head.pose(rest).vertices


def _region(found: Correspondence, own: FlameModel, region: Tensor) -> Tensor:
    share = torch.zeros(own.num_vertices)
    share[region] = 1.0
    return torch.from_numpy((found.values(share.numpy()) > 0.5).nonzero()[0])


def _rows(fields: Tensor) -> np.ndarray:
    return fields.flatten(1).double().numpy()


def _rows_of(found: Correspondence, fields: Tensor) -> np.ndarray:
    return found.offsets(fields.double().numpy()).reshape(len(fields), -1)
