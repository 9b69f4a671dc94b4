"""Figures of the companion papers: similarity of models, whole images, attention, frequencies and token geometry."""

from evaluate.figures import (
    agreement,
    attention,
    frequency,
    image_classification,
    information,
    invariance,
    object_positions,
    similarity,
    token_geometry,
    token_maps,
)
from evaluate.figures.entry import OVER_IMAGES, OVER_MINIBATCHES, FigureEntry

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
        "image-classification",
        "Classes of whole images, layer by layer",
        "Accuracy on whole images from each layer's tokens, through the final norm. The dotted line is the most common "
        "class.",
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
    FigureEntry(
        "attention",
        "Attention block by block",
        "How far a query patch attends, how much that depends on the query (0 where all attend alike), and over how "
        "many patches it spreads; mean over heads, with a dot a head. Dotted lines are uniform attention.",
        attention.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "class-maps",
        "Attention of the class token",
        "The class token's attention over the patches, each map with its own scale from 0.",
        attention.class_maps,
        "attention",
        'Maps of the class token are not shown: none are stored, or `pictures` is 0. Add "class-attention" to '
        "`captures` in [features], then extract and evaluate again.",
    ),
    FigureEntry(
        "query-maps",
        "Attention of single patches",
        "The attention of the framed patches over all patches, mean over heads, each map with its own scale from 0; "
        "computed again from stored queries and keys.",
        attention.query_maps,
        "attention",
        "Maps of query patches are not shown: no queries and keys are stored, or none are asked for. Add "
        '`sublayers = ["query", "key"]` to [features], for few images, then extract and evaluate again.',
    ),
    FigureEntry(
        "frequency",
        "Frequencies of the tokens",
        "How much of the tokens' Fourier amplitude is at high frequencies: low values are tokens that change slowly "
        "over the image. Half depths are sums after the attention. Other grids have another highest frequency.",
        frequency.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "token-statistics",
        "Likeness of the tokens",
        "Mean cosines over pairs of heads, over pairs of positions and from one block to the next, and the variance "
        "over positions.",
        token_geometry.statistics,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "token-spectra",
        "Singular values of the tokens",
        "Singular values of each image's centred tokens and of the images' centred mean tokens at the last depth, and "
        "over how many dimensions tokens spread. A spectrum that falls fast is one of few dimensions.",
        token_geometry.spectra,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "token-maps",
        "Maps of the tokens",
        "A dot a patch of some images, all in one map. Distances in a t-SNE, and sizes of its clusters, mean little.",
        token_maps.flat,
    ),
    FigureEntry(
        "token-moves",
        "How a layer moves tokens",
        "The patches of one image before and after, on the first three right singular vectors of both together.",
        token_maps.moves,
    ),
)
"""Figures of "Objectives Matter" and "What Do Self-Supervised ViTs Learn?", in order."""
