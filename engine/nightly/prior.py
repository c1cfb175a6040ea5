"""Where the painter draws from leans a little towards what is liked.

Of all Gaussians N(d, 1), the one that best pleases a reward r at the price of its distance to N(0, 1),
max_d E[r] / sigma - KL(N(d, 1) || N(0, 1)) / b, has d = b E[grad_z r] / sigma, sigma the spread of r; |d| is at most b.
It is what drawing with odds exp(b r / sigma) gives where r is linear in z, and E[grad_z r] = E[r z] for any r (Stein's
lemma).  The spread stays what it was, so that no variety is lost: what is liked becomes likelier, nothing impossible.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.nets.painter import Painter
from engine.nightly.looks import Look
from engine.nightly.taste import Taste

BATCH = 16


def leaning(net: Painter, base: Painter) -> Tensor:
    """Return how far each genre's prior stands from the base release's (G, Z), in spreads of the latter."""
    return (torch.linalg.pinv(base.spread) @ (net.centre - base.centre)[:, :, None])[:, :, 0]


def lean(
    net: Painter, base: Painter, taste: Taste, looks: Look, *, strength: float, total: float, ceiling: float,
    samples: int, seed: int,
) -> None:  # fmt: skip
    """Move each genre's ``centre`` of ``net`` towards what ``taste`` likes.

    Args:
        base: the release from whose prior all leaning is counted.
        looks: what the taste looks at.
        strength: b, in spreads: what a reward that is linear in z moves the prior in one night.
        total: furthest distance from the base's prior, in its spreads.
        ceiling: no picture is rewarded for a score above this.
        samples: drawn of each genre.
    """
    generator = torch.Generator().manual_seed(seed)
    leant = leaning(net, base)
    for label in range(net.genres):
        genre = F.one_hot(torch.full((samples,), label), net.genres).float()
        z = torch.randn(samples, net.z_dim, generator=generator).requires_grad_(True)
        scores, slopes = [], []
        for part, of in zip(z.split(BATCH), genre.split(BATCH), strict=True):
            score = taste.lower(looks(net(part, of))).clamp_max(ceiling)
            (slope,) = torch.autograd.grad(score.sum(), part)
            scores.append(score.detach())
            slopes.append(slope)
        wish = torch.cat(slopes).mean(0) / torch.cat(scores).std().clamp_min(1e-6)
        leant[label] += strength * wish
        leant[label] *= (total / leant[label].norm().clamp_min(1e-12)).clamp_max(1)
    net.centre.copy_(base.centre + (base.spread @ leant[:, :, None])[:, :, 0])
