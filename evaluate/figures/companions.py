"""Figures of the companion papers: similarity of models, whole images, attention, frequencies and token geometry."""

from evaluate.figures import (
    agreement,
    gram_drift,
    image_classification,
    information,
    invariance,
    object_positions,
    similarity,
    similarity_views,
)
from evaluate.figures.entry import OVER_IMAGES, OVER_MINIBATCHES, FigureEntry
from evaluate.figures.token_table import TOKEN_FIGURES

COMPANION_FIGURES = (
    FigureEntry(
        "similarity",
        "Similarity of layers and models",
        "Unbiased CKA of every pair of layers, within a model on the diagonal and between models beside it: 1 is alike "
        "up to rotation, scale and offset, 0 is unrelated, and it may be below. Depth counts the blocks passed.",
        similarity.figure,
    ),
    FigureEntry(
        "similarity-models",
        "Models grouped by similarity",
        "Average linkage of models by CKA of their last layers: the further to the left two branches join, the less "
        "alike they are.",
        similarity.by_model,
    ),
    FigureEntry(
        "similarity-depth",
        "Where models diverge",
        "CKA of corresponding layers of models of the same depth. Below the dashed line at 0.5 they count as diverged.",
        similarity.by_depth,
        interval=OVER_MINIBATCHES,
    ),
    FigureEntry(
        "similarity-sublayers",
        "Similarity of sub-layers",
        "CKA of every pair of blocks at the same point in them, such as the outputs of their attention.",
        similarity.sublayers,
    ),
    FigureEntry(
        "similarity-views",
        "Similarity of clean and changed inputs",
        "CKA of the last layer on clean inputs with the same layer under a view: 1 where the view leaves the "
        "arrangement of the images as it is.",
        similarity_views.figure,
        interval=OVER_MINIBATCHES,
    ),
    FigureEntry(
        "gram-drift",
        "Drift of the likeness of patches",
        "How far the cosines of all pairs of an image's patches differ: 0 is the same layout of likeness, whatever the "
        "features.",
        gram_drift.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "image-classification",
        "Classes of whole images, layer by layer",
        "Accuracy on whole images from each layer's tokens. The dotted line is the most common class.",
        image_classification.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "agreement",
        "Agreement of two models",
        "Share of images of which two models predict the same class, and Cohen's kappa of their being right: 0 is what "
        "independent errors give, 1 the same errors.",
        agreement.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "information",
        "Information in few features",
        "Accuracy of a linear probe of whole images that reads random features or leading principal components; the "
        "last mark is all features.",
        information.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "invariance",
        "Invariance to changed images",
        "Mean cosine of an image's vector with that of its changed version, less the mean with other images' changed "
        "versions: 0 is no likeness beyond that of any two images.",
        invariance.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "object-positions",
        "Number and place of objects",
        "R² of held-out images, predicted by ridge regression from one vector an image: 1 is perfect, 0 the mean.",
        object_positions.figure,
        interval=OVER_IMAGES,
    ),
    *TOKEN_FIGURES,
)
"""Figures of "Objectives Matter" and "What Do Self-Supervised ViTs Learn?", in order."""
