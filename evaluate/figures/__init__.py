"""The table of all figures of a report, with title and caption."""

from evaluate.figures import (
    association,
    class_curve,
    curves,
    feature_treatments,
    global_context,
    image_knn,
    image_robustness,
    in_context_segmentation,
    label_maps,
    main_scores,
    overclustering,
    ranking_overlap,
    reconstruction,
    reconstruction_pictures,
    retrieval,
    retrieval_examples,
    robustness,
    tracking,
    treated_scores,
    variance_spectrum,
)
from evaluate.figures.companions import COMPANION_FIGURES
from evaluate.figures.entry import OVER_IMAGES, OVER_VIDEOS, FigureEntry
from evaluate.figures.geometry_table import GEOMETRY_FIGURES

FIGURES = (
    FigureEntry(
        "main-scores",
        "Main scores",
        "One line a model. The grey stroke is what the most common class would get, where it is known.",
        main_scores.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "variance-spectrum",
        "Variance of the features",
        "The variance of every feature over the training patches, largest first. A few features far above a long tail "
        "are what masked-image models are known for; a nearly level line is what contrastive and supervised ones show.",
        variance_spectrum.figure,
    ),
    FigureEntry(
        "ranking-overlap",
        "Overlap of the features that vary most",
        "Share of the features of highest variance that are among those of another layer, model or data set too. Grey "
        "is the range of 95 % of unrelated rankings. Features of two "
        "models are compared by number only, so that chance is expected.",
        ranking_overlap.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "removal-curve",
        "Removing the features that vary most",
        "mIoU of patches without the m features of highest variance. Where these ruin distances, nearest neighbours "
        "recover as m grows while the probe stays level.",
        curves.removal_curve,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "layer-curve",
        "Layer by layer",
        "mIoU of patches from each layer's tokens, through the final norm.",
        curves.layer_curve,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "train-size",
        "More training images",
        "mIoU of patches against the number of training images; smaller sets are part of larger ones.",
        curves.train_size,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "class-curve",
        "Easy and other classes, layer by layer",
        "IoU of nearest neighbours on each layer's tokens. A thin line is one class, a thick one the mean of the "
        "panel; the data set's class table lists the easy classes.",
        class_curve.figure,
    ),
    FigureEntry(
        "feature-treatments",
        "Effect of feature treatments",
        "mIoU of patches on treated features less that on untreated ones, the same images. Random choices are a "
        "mark each. Where it was asked for: the same less removing the features of highest variance, and what share of "
        "the training patches' variance is taken out.",
        feature_treatments.figure,
        interval=" {marks} are 95 % paired bootstrap intervals over images; one that covers zero is no difference.",
    ),
    FigureEntry(
        "feature-treatments-overlap",
        "Overlap of what treatments take out",
        "Mean squared cosine of the principal angles between what two treatments take out of the training patches: 1 "
        "where one holds the other, 0 where they share nothing. Random directions share max(a, b)/D, with a and b of D "
        "directions taken out.",
        feature_treatments.overlaps,
    ),
    FigureEntry(
        "treated-scores",
        "Removal and its alternatives",
        "The main score of every analysis with all features, without the m features of highest variance, and on "
        "features that were treated instead, with nothing removed. Vertical lines are the scores with all features.",
        treated_scores.figure,
        interval=" {marks} are 95 % bootstrap intervals over images, of tracking and association over videos.",
        shows_treated=True,
    ),
    FigureEntry(
        "in-context-segmentation",
        "In-context segmentation",
        "mIoU of pixels whose classes come from the most similar training patches, by attention over their labels.",
        in_context_segmentation.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "overclustering",
        "Clusters as classes",
        "mIoU of k-means clusters of patches after each is given a class, on the same patches: scores grow with the "
        "number of clusters. A mark is a run of k-means.",
        overclustering.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "robustness",
        "Robustness to changed images",
        "mIoU on changed images against that on clean ones, classifiers trained on clean images. A model is a vertical "
        "line with its clean score on top and a dot a level, smaller as the change grows; grey diagonals keep 100, 80, "
        "60, 40 and 20 % of the clean score. Each removed m has a row. Images are changed before tiles are "
        "resized to the input: a frame that shrinks them lets less of the finest noise reach the models.",
        robustness.figure,
    ),
    FigureEntry(
        "robustness-images",
        "Whole images under changes",
        "Accuracy on changed images less that on clean ones, by classifiers fitted on clean images: 0 is no loss. The "
        "interval is paired: both accuracies are of the same images.",
        image_robustness.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "retrieval",
        "Retrieval of changed patches",
        "What the nearest clean patch of a changed object patch is, in percent of queries. The line is the share "
        "that has a corresponding clean patch at all.",
        retrieval.figure,
    ),
    FigureEntry(
        "retrieval-elsewhere",
        "Retrieval from other tiles",
        "The same with all patches of the query's own tile left out of the gallery.",
        retrieval.without_own_tile,
    ),
    FigureEntry(
        "retrieval-examples",
        "Examples of retrieved patches",
        "Queries of every view at its last level with the clean patches nearest to them, framed in their tiles; below "
        "each, the outcome. Tiles are shown as they were before the view: a query is framed at the clean patch that "
        "holds its centre, and labelled by its category.",
        retrieval_examples.figure,
        "retrieval",
        "Examples are not shown: no input pixels are stored. Put `input_pixels = true` into [features] of the "
        "experiment, then extract and evaluate again.",
    ),
    FigureEntry(
        "tracking",
        "Tracking by retrieval",
        "Share of objects whose nearest object some frames later is the same one (solid) and of the same category "
        "(dashed, open marks), with chance dotted.",
        tracking.figure,
        interval=OVER_VIDEOS,
    ),
    FigureEntry(
        "association",
        "Association of objects to tracks",
        "Scores of whole videos whose true boxes were joined to tracks by distance: HOTA (here the root of its "
        "association part, for detection is 1), IDF1, and how often an object changed its track, all videos "
        "together.",
        association.figure,
        interval=OVER_VIDEOS,
    ),
    FigureEntry(
        "image-knn",
        "Nearest neighbours of whole images",
        "Accuracy of nearest neighbours on whole images against the size the model saw over the native size.",
        image_knn.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "global-context",
        "Class shares predicted from one patch",
        "R² of class shares predicted from the central patch, mean over the classes in the settings.",
        global_context.figure,
        interval=OVER_IMAGES,
    ),
    FigureEntry(
        "reconstruction",
        "Reconstruction with features zeroed",
        "Mean squared error in the space of the decoder's targets (over masked patches where there are any), PSNR and "
        "SSIM of whole tiles, as MAE's own decoder draws them. Lower error is better, higher PSNR and SSIM are. "
        "Random choices are a dot each, and the bar is their mean.",
        reconstruction.figure,
        interval=" Lines on the bars are 95 % bootstrap intervals over images.",
    ),
    FigureEntry(
        "reconstruction-pictures",
        "Pictures reconstructed with features zeroed",
        "Validation tiles as MAE's decoder draws them, nothing pasted in; what the encoder did not see is grey in the "
        "input. Of the random choices the first is shown.",
        reconstruction_pictures.figure,
    ),
    FigureEntry(
        "label-maps",
        "Predicted classes",
        "Validation images patch by patch: the image where its pixels are stored, the true class of each patch, then "
        "the predicted ones. The lightest grey is void.",
        label_maps.figure,
        shows_treated=True,
    ),
    *COMPANION_FIGURES,
    *GEOMETRY_FIGURES,
)
"""Every figure of a report, in order."""

PICTURES = (
    *(
        "label-maps",
        "token-components",
        "reconstruction-pictures",
        "retrieval-examples",
        "token-cosines",
        "token-norms",
    ),
    *("class-maps", "query-maps", "token-maps"),
)
"""Names of the figures that show images or single patches, in the order of the page: what a reader looks at first."""
