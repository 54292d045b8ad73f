"""First phase: train the vision tower to describe the cell of each visual token.

The targets come from the scene's map (`scenes.cell_truth`); a linear head, discarded afterwards,
predicts them from the tower's output. Answers alone do not train the vision tower of a small model,
see docs/log.md.

Shapes: B images, N = 4 · CELLS² patches of an image, D = 1176 values of a patch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scenes import CELLS, CENTRES, SHARES, TARGETS, Scenes
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

GRID = (1, 2 * CELLS, 2 * CELLS)
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def to_patches(pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Return (B, SIDE, SIDE, 3) pixels as the processor passes them to the tower: (B · N, D)."""
    x = torch.tensor(pixels, device=device).float().div_(255)
    x = (x - torch.tensor(MEAN, device=device)) / torch.tensor(DEVIATION, device=device)
    b = len(x)
    x = x.view(b, CELLS, 2, 14, CELLS, 2, 14, 3)
    # cells, patches of a cell, then colours, two equal frames, rows, columns
    x = x.permute(0, 1, 4, 2, 5, 7, 3, 6).unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    return x.reshape(b * 4 * CELLS**2, 3 * 2 * 14 * 14)


def rotate(array: NDArray[Any], way: int) -> NDArray[Any]:
    """Apply one of the eight rotations and reflections to arrays (B, side, side, values)."""
    array = np.rot90(array, way % 4, axes=(1, 2))
    return array[:, :, ::-1] if way >= 4 else array


class GridHead(nn.Module):
    """Predicts the targets of a cell from its visual token: (…, H) → (…, TARGETS)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, TARGETS)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits of shares, and numbers."""
        found: torch.Tensor = self.linear(features)
        return found


#: Weight of the numbers, which are mostly zero: few cells contain the centre of an element.
_NUMBERS = 6.0


def grid_loss(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the shares plus the weighted squared error of the numbers."""
    shares = torch.cat([predicted[..., :SHARES], predicted[..., -1:]], -1)
    true = torch.cat([truth[..., :SHARES], truth[..., -1:]], -1)
    numbers = slice(SHARES, SHARES + CENTRES)
    return binary_cross_entropy_with_logits(shares, true) + _NUMBERS * mse_loss(
        predicted[..., numbers], truth[..., numbers]
    )


def visual_tokens(visual: Any, pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Return the (B, CELLS², H) visual tokens of (B, SIDE, SIDE, 3) pixels."""
    grids = torch.tensor([GRID] * len(pixels), device=visual.device)
    out = visual(to_patches(pixels, visual.device), grid_thw=grids).pooler_output
    return out.view(len(pixels), CELLS**2, -1)


@torch.no_grad()
def grid_scores(visual: Any, head: GridHead, scenes: Scenes, most: int = 200) -> dict[str, float]:
    """Return the explained variance of the targets, on held-out scenes."""
    predicted, truth = [], []
    for start in range(0, min(most, len(scenes)), 20):
        part = slice(start, start + 20)
        predicted.append(head(visual_tokens(visual, scenes.pixels[part])).cpu())
        flat = scenes.targets[part].reshape(-1, CELLS**2, TARGETS)
        truth.append(torch.from_numpy(flat.astype(np.float32)))
    guess, true = torch.cat(predicted), torch.cat(truth)
    guess[..., :SHARES] = guess[..., :SHARES].sigmoid()
    guess[..., -1] = guess[..., -1].sigmoid()

    def explained(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(1 - (a - b).square().sum() / (b - b.mean(dim=(0, 1))).square().sum())

    numbers = slice(SHARES, SHARES + CENTRES)
    built = slice(SHARES, SHARES + 3)
    whole = guess[..., built].sum(dim=(1, 2)), true[..., built].sum(dim=(1, 2))
    return {
        "shares_r2": explained(guess[..., :SHARES], true[..., :SHARES]),
        "road_r2": explained(guess[..., 3:4], true[..., 3:4]),
        "numbers_r2": explained(guess[..., numbers], true[..., numbers]),
        "buildings_r2": explained(guess[..., built].sum(-1), true[..., built].sum(-1)),
        "buildings_error": float((whole[0] - whole[1]).abs().mean()),
    }
