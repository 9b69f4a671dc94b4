"""The table of figures of what was captured inside models: attention, frequencies, geometry of the tokens."""

from evaluate.figures import attention, frequency, token_geometry, token_maps, token_pictures
from evaluate.figures.entry import OVER_IMAGES, FigureEntry

TOKEN_FIGURES = (
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
    FigureEntry(
        "token-components",
        "Principal components of the tokens as colours",
        "The first three principal components of the patch tokens of all shown images together as red, green and blue: "
        "equal colours are equal components within a column. With one basis for all layers a colour is the same "
        "direction in every column of a model, on each layer's own scale. Which share of the variance they have stands "
        "in the table; signs are fixed by the largest loading. Black is background, where it was asked for.",
        token_pictures.components,
    ),
    FigureEntry(
        "token-norms",
        "Norms of the tokens",
        "The Euclidean norm of every patch token; one scale a column, whose ends stand below it.",
        token_pictures.norm,
    ),
    FigureEntry(
        "token-cosines",
        "Patches that resemble a chosen one",
        "The cosine of every patch token with that of the framed patch of the same image, from -1 (blue) to 1 (red).",
        token_pictures.cosine,
    ),
)
"""Figures of the analyses attention, frequency, token-geometry and token-pictures, in order."""
