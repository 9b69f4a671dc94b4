"""Sealed sets of patch tokens on a grid with tiles of images, and every quantity of their geometry from its formula."""

import numpy as np
import pandas as pd

from evaluate.inputs.model_sets import ModelSets
from stores.specs import FrameSpec, Size
from tests.evaluate.planted import CLASSES, write_set
from tests.stores.specs_for_tests import FEATURES, LABELS


def geometry_set(folder, arrays, grid, *, tiles=1, labels=None, title="planted", range_bytes=4096, covariances=()):
    """Write patch tokens ``[row, patch, channel]`` by (layer, norm); consecutive ``tiles`` rows are one image.

    ``covariances`` lists the points of (layer, False) whose means and covariances are captured: same tokens each.
    """
    n_rows, n_patches = next(iter(arrays.values())).shape[:2]
    height, width = (4 * side for side in grid)
    table = pd.DataFrame(
        {
            "sample": [f"image{row // tiles:03}.png[0,{row % tiles}]" for row in range(n_rows)],
            "source": [f"image{row // tiles:03}.png" for row in range(n_rows)],
            "group": "all",
            "split": "val",
            "tile_row": 0,
            "tile_column": [row % tiles for row in range(n_rows)],
            "left": [row % tiles * width for row in range(n_rows)],
            "top": 0,
            "right": [(row % tiles + 1) * width for row in range(n_rows)],
            "bottom": height,
            "owned_left": 0,
            "owned_top": 0,
            "owned_right": width,
            "owned_bottom": height,
            "image_class": -1,
            "source_sha256": "",
            "label_sha256": "",
            "valid": True,
            "reason": "",
        }
    )
    facts = {"grid_rows": grid[0], "grid_columns": grid[1]}
    frame = FrameSpec(input=Size(height=height, width=width), tile=Size(height=height, width=width))
    written = {
        f"tokens/block.{layer}{'.norm' if norm else ''}": (
            tokens,
            ("sample", "patch", "channel"),
            {"layer": layer, "norm": norm, **facts},
        )
        for (layer, norm), tokens in arrays.items()
    }
    for layer, point in covariances:
        name = f"covariances/block.{layer}" + ("" if point == "output" else f".{point}")
        tokens = arrays[layer, False].astype(np.float64)
        kept = {"layer": layer, "norm": None, "point": point, "depth": layer + 1.0, "n_patches": n_patches}
        facts_of = {**kept, "channels": tokens.shape[2]}
        written[name] = (captured_moments(tokens), ("sample", "moment"), facts_of)
    features = write_set(folder, FEATURES.model_copy(update={"frame": frame}), written, {"samples": table}, range_bytes)
    given = np.full((n_rows, n_patches), 255, np.uint8) if labels is None else labels
    pixels = given.reshape(n_rows, *grid).repeat(4, axis=1).repeat(4, axis=2)
    kept = {
        "pixels/classes": (pixels, ("sample", "height", "width"), {}),
        f"patches/{grid[0]}x{grid[1]}": (given, ("sample", f"patch_{grid[0]}x{grid[1]}"), facts),
    }
    tables = {"samples": table, "classes": CLASSES}
    label_set = write_set(folder, LABELS.model_copy(update={"frame": frame}), kept, tables, range_bytes)
    return ModelSets(title, features, label_set, False, "patchbank extract planted.toml")


def captured_moments(tokens):
    """Return each row's mean and lower triangle of the covariance, patch by patch in float64."""
    rows = []
    for row in tokens:
        mean = row.mean(axis=0)
        covariance = sum(np.outer(patch - mean, patch - mean) for patch in row) / len(row)
        rows.append([*mean, *(covariance[i, j] for i in range(len(mean)) for j in range(i + 1))])
    return np.array(rows, dtype=np.float32)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def distances_of(grid):
    places = np.array([(row, column) for row in range(grid[0]) for column in range(grid[1])], dtype=np.float64)
    return places, np.abs(places[:, None] - places[None]).sum(axis=2)


def srss(cosines, labels, distances):
    """Patch by patch (arXiv 2512.10794), every class a foreground."""
    contrasts = []
    for patch, own in enumerate(labels):
        if own == 255:
            continue
        near = (distances[patch] == 1) & (labels == own)
        far = (distances[patch] >= 6) & (labels != own) & (labels != 255)
        if near.any() and far.any():
            contrasts.append(cosines[patch, near].mean() - cosines[patch, far].mean())
    return np.mean(contrasts) if contrasts else np.nan


def r2_of_positions(tokens, images, places):
    """Standardised ridge on explicit rows, three folds of consecutive images."""
    n_images, y = images.max() + 1, places - places.mean(axis=0)
    folds = [tokens[images * 3 // n_images == fold] for fold in range(3)]

    def fit(parts, penalty):
        x = np.concatenate([part.reshape(-1, part.shape[2]) for part in parts])
        targets = np.tile(y, (len(x) // len(y), 1))
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        z = (x - mean) / deviation
        weights = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ targets)

        def errors(part):
            held = (part.reshape(-1, part.shape[2]) - mean) / deviation
            return ((np.tile(y, (len(part), 1)) - held @ weights) ** 2).sum(axis=0)

        return errors

    residual = total = 0.0
    for number in range(3):
        first, second, held = (folds[(number + step) % 3] for step in range(3))
        penalties = np.logspace(-3, 5, 17)
        tried = np.array([fit([first], penalty)(second) for penalty in penalties]).argmin(axis=0)
        residual += np.array([fit([first, second], penalties[one])(held)[axis] for axis, one in enumerate(tried)])
        total += len(held) * (y**2).sum(axis=0)
    return 1 - residual / total


def reference(stored, grid, tiles=1, labels=None, k=5.0, ranks=(10, 100)):
    """Every quantity of one array, by (metric, outcome, m) from its formula in float64; nothing is shared with ours."""
    tokens = stored.astype(np.float64)
    n_rows, n_patches, n_channels = tokens.shape
    images = np.arange(n_rows) // tiles
    flat, units = tokens.reshape(-1, n_channels), unit(tokens)
    places, distances = distances_of(grid)
    found = {}
    norms = np.linalg.norm(tokens, axis=2)
    median = np.median(norms)
    threshold = median + k * np.median(np.abs(norms - median))
    outliers = norms > threshold
    touched = np.isin(places[:, 0], (0, grid[0] - 1)).astype(int) + np.isin(places[:, 1], (0, grid[1] - 1))
    found["norm_median", None, None] = median
    found["norm_threshold", f"median + {k:g} MAD", None] = threshold
    for name, where in (("all patches", touched >= 0), ("inside the grid", touched == 0), ("border", touched == 1),
                        ("corners", touched == 2)):  # fmt: skip
        found["norm_outlier_share", name, None] = outliers[:, where].mean()
    from scipy.stats import kurtosis, skew

    n = norms.size
    excess = kurtosis(norms.ravel(), fisher=True, bias=False)
    found["norm_bimodality", None, None] = (skew(norms.ravel(), bias=False) ** 2 + 1) / (
        excess + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3))
    )
    magnitude = np.abs(tokens)
    middle = np.sort(magnitude, axis=None)[(magnitude.size + 1) // 2 - 1]
    found["median_magnitude", None, None] = middle
    found["largest_to_median", None, None] = magnitude.max() / middle
    both = max(100.0, 1000 * middle)
    for name, limit in (("above 100", 100.0), ("above 1000 medians", 1000 * middle), ("above both", both)):
        found["massive_share", name, None] = (magnitude > limit).mean()
    found["massive_images", None, None] = np.mean([(magnitude[images == one] > both).any() for one in set(images)])
    found["massive_channels", None, None] = (magnitude > both).any(axis=(0, 1)).sum()
    found["channel_kurtosis", None, None] = kurtosis(flat, axis=1, fisher=False).mean()
    centred = flat - flat.mean(axis=0)
    for name, matrix in (("centred", centred), ("not centred", flat)):
        values = np.linalg.svd(matrix, compute_uv=False)
        shares, squares = values / values.sum() + 1e-7, values**2
        found["rankme", name, None] = np.exp(-(shares * np.log(shares)).sum())
        last = min(ranks[1], len(squares))
        some = np.arange(ranks[0], last + 1)
        slope = np.polyfit(np.log(some), np.log(squares[some - 1]), 1)[0]
        found["decay_exponent", f"{name}, ranks {ranks[0]} to {last}", None] = -slope
        found["participation_ratio", name, None] = squares.sum() ** 2 / (squares**2).sum()
        found["stable_rank", name, None] = squares.sum() / squares[0]
    products = flat @ flat.T
    lengths = np.diag(products)
    top, bottom = np.outer(lengths, lengths), products**2
    found["participation_ratio", "not centred, bias corrected", None] = (top.sum() - np.trace(top)) / (
        bottom.sum() - np.trace(bottom)
    )
    cosines = units @ units.transpose(0, 2, 1)
    by_distance = np.array([cosines[:, distances == apart].mean(axis=1) for apart in range(grid[0] + grid[1] - 1)]).T
    far = cosines[:, distances >= 6].mean(axis=1) if distances.max() >= 6 else np.full(n_rows, np.nan)
    fitted = np.arange(1, min(8, by_distance.shape[1] - 1) + 1)
    found["lds", None, None] = np.mean(by_distance[:, 1] - far)
    found["cds", None, None] = np.mean([-np.polyfit(fitted, row[fitted], 1)[0] for row in by_distance])
    offsets = units - units.mean(axis=1, keepdims=True)
    found["rmsc", None, None] = np.sqrt((offsets**2).sum(axis=2).mean(axis=1)).mean()
    if labels is not None:
        found["srss", None, None] = np.nanmean(
            [srss(one, own, distances) for one, own in zip(cosines, labels, strict=True)]
        )
    found["position_r2", "row", None], found["position_r2", "column", None] = r2_of_positions(tokens, images, places)
    grand = flat.mean(axis=0)
    of_position, of_row = tokens.mean(axis=0), tokens.mean(axis=1)
    rest = tokens - of_position[None] - of_row[:, None] + grand
    everything = ((tokens - grand) ** 2).sum()
    explained = n_rows * ((of_position - grand) ** 2).sum()
    found["position_share", None, None] = (explained - (rest**2).sum() / (n_rows - 1)) / everything
    means = np.array([tokens[images == one].reshape(-1, n_channels).mean(axis=0) for one in sorted(set(images))])
    within = sum(((tokens[images == one] - means[one]) ** 2).sum() for one in set(images))
    found["share_within_images", None, None] = within / everything
    of_image = np.repeat(images, n_patches)
    every = units.reshape(-1, n_channels) @ units.reshape(-1, n_channels).T
    same = of_image[:, None] == of_image[None]
    own = [
        (every[np.ix_(of_image == one, of_image == one)].sum() - (of_image == one).sum())
        / ((of_image == one).sum() * ((of_image == one).sum() - 1))
        for one in sorted(set(images))
    ]
    found["mean_cosine", "tokens of one image", None] = np.mean(own)
    found["mean_cosine", "tokens of two images", None] = every[~same].mean()
    between = unit(means) @ unit(means).T
    apart = ~np.eye(len(means), dtype=bool)
    found["mean_cosine", "means of two images", None] = between[apart].mean()
    rows = units.reshape(-1, n_channels)
    parts = np.array([np.outer(rows[:, one], rows[:, one])[~same].mean() for one in range(n_channels)])
    for m in (1, 3):
        found["cosine_share", None, m] = np.sort(parts)[::-1][:m].sum() / parts.sum()
    found["uniformity", "means of images", None] = np.log(np.exp(-2 * (2 - 2 * between[apart])).mean())
    others = ~np.eye(len(every), dtype=bool)
    found["uniformity", "tokens", None] = np.log(np.exp(-2 * (2 - 2 * every[others])).mean())
    return found, outliers.mean(axis=0).reshape(grid)
