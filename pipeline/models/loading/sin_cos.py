"""Computes the fixed sine-cosine position embedding of MAE and Scale-MAE."""

import torch
from jaxtyping import Float


def sin_cos_table(
    width: int, grid: tuple[int, int], resolution: Float[torch.Tensor, " sample"]
) -> Float[torch.Tensor, "sample token channel"]:
    """Return one table per resolution: a row of zeros for the class token, then the patches row by row.

    The first half of the channels encodes the column, the second the row. In each half, frequency ``k`` of ``width/4``
    is ``10000^(-4k/width)``: first all sines, then all cosines of the coordinate times the frequency. The coordinate
    is counted in patches and multiplied by ``resolution``, the ground length of a pixel in metres for Scale-MAE
    (arXiv 2212.14532, equation 2 and util/pos_embed.py of its repository) and 1 for MAE (util/pos_embed.py). Computed
    in float64 and rounded once. ``width`` is a multiple of 4.
    """
    rows, columns = grid
    quarter = width // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    scale = resolution.detach().cpu().double()[:, None, None]
    parts = []
    for coordinate in (x, y):
        angle = coordinate.reshape(1, -1, 1) * scale * frequency
        parts += [angle.sin(), angle.cos()]
    table = torch.cat(parts, dim=2)
    return torch.cat([torch.zeros(len(table), 1, width), table], dim=1).float()
