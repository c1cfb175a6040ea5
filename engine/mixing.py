"""Two models of one lineage as one: their weights averaged (model soups, Wortsman et al. 2022, 2203.05482).

A painter that learned on paints some genres better than before and others worse; a mixture often keeps the better half
of both, and costs no training.  So do two trainings that went on from one model side by side, each on its own core.
Two from nothing do not meet.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine import checkpoints, nets
from engine.checkpoints import Card
from engine.errors import InvalidRequest
from engine.nets.painter import Painter, measure_norms

KEPT = ("kind", "system", "net", "discriminator", "genres", "art_styles", "styles", "resolution", "defaults", "licence")
CHOSEN = ("net.palettes",)  # a brush's, drawn from paintings in an order of its own: half of two is nobody's
BATCHES = 100  # of 32 paintings, from which a mixed painter's norms are measured


def mix(first: Card, second: Card, share: float, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return card fields and tensors of a model ``name`` whose network is ``share`` the second and the rest the first.

    All that only training needs, such as a painter's discriminator, is the second's, and so are a brush's palettes.

    Raises:
        InvalidRequest: the two are not of the same network, or know other genres, art styles or styles.
    """
    for field in ("kind", "net", "genres", "art_styles", "styles"):
        if first.get(field) != second.get(field):
            raise InvalidRequest(f"{first.name} and {second.name} differ in {field}; only models of one lineage mix.")
    ours, tensors = checkpoints.read_tensors(first), checkpoints.read_tensors(second)
    for key, theirs in tensors.items():
        if key.startswith("net.") and key not in CHOSEN and theirs.is_floating_point():
            tensors[key] = torch.lerp(ours[key].float(), theirs.float(), share)
    net = nets.create(second["net"]["name"], **second["net"].get("config", {}))
    if isinstance(net, Painter):
        net.load_state_dict({key.removeprefix("net."): x for key, x in tensors.items() if key.startswith("net.")})
        rng = torch.Generator().manual_seed(0)
        genres = torch.eye(net.genres, net.genres + net.art_styles)
        measure_norms(
            net,
            (
                (torch.randn(32, net.z_dim, generator=rng), genres[torch.randint(net.genres, (32,), generator=rng)])
                for _ in range(BATCHES)
            ),
        )
        tensors |= {f"net.{key}": value for key, value in net.state_dict().items()}
    fields = {key: second[key] for key in KEPT if key in second.fields}
    parts = [{"name": card.name, "sha256": card.sha256, "share": part} for card, part in
             ((first, 1 - share), (second, share))]  # fmt: skip
    seen = {key: max(card.get(key, 0) for card in (first, second)) for key in ("images_seen", "cpu_hours")}
    return {"name": name} | fields | seen | {"mixed": parts}, tensors
