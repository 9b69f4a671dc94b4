"""The table of figures of the geometry of features: outliers, rank, structure, position, spread and dimension."""

from evaluate.figures import feature_geometry, outlier_maps
from evaluate.figures.entry import OVER_IMAGES, FigureEntry

GEOMETRY_FIGURES = (
    FigureEntry(
        "geometry-norms",
        "Lengths of the patch tokens",
        "How long tokens are, and how many are outliers by a rule that goes with the layer. Before and after the final "
        "norm are different questions: a threshold of one place in one model means nothing in another. A long tail "
        "raises Sarle's coefficient as two modes do.",
        feature_geometry.norms,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "geometry-outlier-maps",
        "Where outlier tokens are",
        "Share of the inputs in which each patch is a norm outlier; a row of maps has one scale. Patches that always "
        "are outliers belong to the model, others to what is in the image.",
        outlier_maps.outliers,
    ),
    FigureEntry(
        "geometry-norm-maps",
        "Lengths by position",
        "Mean length of the tokens at each position over the mean of all; a row of maps has one scale.",
        outlier_maps.lengths,
    ),
    FigureEntry(
        "geometry-activations",
        "Massive activations and outlier features",
        "The largest single value, how many images have one above 100 and above 1000 medians, and how much a token's "
        "length and likeness rest on single features.",
        feature_geometry.activation,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "geometry-rank",
        "Effective rank",
        "How many directions the tokens of a layer use. Centring can reverse an order of models, the range of ranks "
        "decides alpha, and more tokens raise all ranks: compare only at equal numbers. There are no intervals, for a "
        "resample repeats images.",
        feature_geometry.rank,
    ),
    FigureEntry(
        "geometry-structure",
        "Spatial structure",
        "Whether near patches look alike more than far ones (iREPA). Grids of other sizes have other distances: "
        "compare only at equal grids.",
        feature_geometry.structure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "geometry-distance",
        "Cosine by distance",
        "Mean cosine of two patches of an input by their distance on the grid, last layer.",
        feature_geometry.by_distance,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "geometry-position",
        "Positional leakage",
        "How well a linear map tells a patch's place from its token, on other images, and the share of variance that "
        "place explains. What the data has at fixed places counts too, such as sky at the top: compare with random "
        "weights.",
        feature_geometry.position,
    ),
    FigureEntry(
        "geometry-spread",
        "Within and between images",
        "Which share of the variance lies within images, and how alike tokens and images are. Uniformity near 0 is a "
        "collapse to one direction.",
        feature_geometry.spread,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "intrinsic-dimension",
        "Intrinsic dimension",
        "Dimension of what the vectors lie on, from the distances to two nearest neighbours. Above about 20 it is a "
        "lower bound; compare only at equal numbers of vectors.",
        feature_geometry.intrinsic_dimension,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "lidar",
        "LiDAR",
        "How many directions tell inputs apart that the views leave alone. It changes with the views and their number.",
        feature_geometry.lidar,
    ),
)
"""Figures of the analyses feature-geometry, intrinsic-dimension and lidar, in order."""
