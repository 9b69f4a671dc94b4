"""Names, units and meanings of the metrics in the long table."""

from dataclasses import dataclass
from typing import Literal

VARIANCE = "variance"
SHARE_OF_VARIANCE = "share_of_variance"
MAX_TO_MEDIAN_VARIANCE = "max_to_median_variance"
OVERLAP = "overlap"
OVERLAP_SHARE = "overlap_share"
CHANCE_OVERLAP = "chance_overlap"
CHANCE_OVERLAP_LOW = "chance_overlap_low"
CHANCE_OVERLAP_HIGH = "chance_overlap_high"
PATCH_MIOU = "patch_miou"
PATCH_MIOU_DIFFERENCE = "patch_miou_difference"
PATCH_MIOU_RATIO = "patch_miou_ratio"
MAJORITY_MIOU = "majority_miou"
PATCH_ACCURACY = "patch_accuracy"
PATCH_IOU = "patch_iou"
REDONE_IN_FLOAT64 = "redone_in_float64"
MEMORY_PATCHES = "memory_patches"
PREDICTED_ENTROPY = "predicted_entropy"
LARGEST_PREDICTED_SHARE = "largest_predicted_share"
SHARE = "share"
RECALL = "recall"
AVERAGE_PRECISION = "average_precision"
UPPER_BOUND = "upper_bound"
IMAGE_ACCURACY = "image_accuracy"
IMAGE_ACCURACY_DIFFERENCE = "image_accuracy_difference"
MAJORITY_ACCURACY = "majority_accuracy"
INSTANCE_ACCURACY = "instance_accuracy"
INSTANCE_ACCURACY_ALL = "instance_accuracy_all"
CATEGORY_ACCURACY = "category_accuracy"
CATEGORY_ACCURACY_ON_FAILURE = "category_accuracy_on_failure"
CHANCE = "chance"
GAP_SECONDS = "gap_seconds"
HOTA = "hota"
DET_A = "det_a"
ASS_A = "ass_a"
IDF1 = "idf1"
ID_SWITCHES = "id_switches"
R2 = "r2"
R2_DIFFERENCE = "r2_difference"
INVALID_ROWS = "invalid_rows"
MSE_NORMALISED = "mse_normalised"
MSE_NORMALISED_RATIO = "mse_normalised_ratio"
MSE_NORMALISED_OF_MEAN_PATCH = "mse_normalised_of_mean_patch"
MSE_NORMALISED_OVER_MEAN_PATCH = "mse_normalised_over_mean_patch"
MSE_PIXELS = "mse_pixels"
MSE_PIXELS_RATIO = "mse_pixels_ratio"
PSNR = "psnr"
SSIM = "ssim"
PENALTY = "penalty"
CONVERGED = "converged"
TRIALS_CONVERGED = "trials_converged"
TRAINING_LOSS = "training_loss"
AGREEMENT = "agreement"
ERROR_CONSISTENCY = "error_consistency"
COSINE = "cosine"
RANDOM_COSINE = "random_cosine"
INVARIANCE = "invariance"
ATTENTION_DISTANCE_PX = "attention_distance_px"
ATTENTION_DISTANCE_UNIT = "attention_distance_unit"
ATTENTION_ENTROPY = "attention_entropy"
ATTENTION_NMI = "attention_nmi"
UNIFORM_DISTANCE_PX = "uniform_distance_px"
UNIFORM_DISTANCE_UNIT = "uniform_distance_unit"
UNIFORM_ENTROPY = "uniform_entropy"
CLASS_ATTENTION_ON_PATCHES = "class_attention_on_patches"
DELTA_LOG_AMPLITUDE = "delta_log_amplitude"
DELTA_LOG_AMPLITUDE_HIGHEST = "delta_log_amplitude_highest"
HEAD_COSINE = "head_cosine"
SPACE_COSINE = "space_cosine"
DEPTH_COSINE = "depth_cosine"
SPATIAL_VARIANCE = "spatial_variance"
LOG_SINGULAR_VALUE = "log_singular_value"
PARTICIPATION_RATIO = "participation_ratio"
MAP_VARIANCE_SHARE = "map_variance_share"
CKA = "cka"
DIVERGENCE_DEPTH = "divergence_depth"
LINEAR_CKA = "linear_cka"
PROCRUSTES = "procrustes"
CCA = "cca"
RSA = "rsa"
MUTUAL_KNN = "mutual_knn"
GRAM_DRIFT = "gram_drift"
CHANCE_MUTUAL_KNN = "chance_mutual_knn"
REMOVED_VARIANCE_SHARE = "removed_variance_share"
REMOVED_OVERLAP = "removed_overlap"
CHANCE_REMOVED_OVERLAP = "chance_removed_overlap"
POSITION_SHARE = "position_share"
NORM_MEDIAN = "norm_median"
NORM_THRESHOLD = "norm_threshold"
NORM_OUTLIER_SHARE = "norm_outlier_share"
NORM_BIMODALITY = "norm_bimodality"
MEDIAN_MAGNITUDE = "median_magnitude"
LARGEST_TO_MEDIAN = "largest_to_median"
MASSIVE_SHARE = "massive_share"
MASSIVE_IMAGES = "massive_images"
MASSIVE_CHANNELS = "massive_channels"
CHANNEL_KURTOSIS = "channel_kurtosis"
COSINE_SHARE = "cosine_share"
RANKME = "rankme"
DECAY_EXPONENT = "decay_exponent"
STABLE_RANK = "stable_rank"
LDS = "lds"
CDS = "cds"
RMSC = "rmsc"
SRSS = "srss"
DISTANCE_COSINE = "distance_cosine"
POSITION_R2 = "position_r2"
SHARE_WITHIN_IMAGES = "share_within_images"
MEAN_COSINE = "mean_cosine"
UNIFORMITY = "uniformity"
INTRINSIC_DIMENSION = "intrinsic_dimension"
EQUAL_POINTS = "equal_points"
LIDAR = "lidar"


@dataclass(frozen=True)
class Metric:
    """One kind of number in the long table."""

    name: str
    """Value of the column ``metric``."""
    unit: str
    """Unit of the column ``value``; a ``share`` lies in 0..1 (a difference of two in -1..1), a ``ratio`` has none."""
    direction: Literal["higher", "lower", "none"]
    """Which values are better; ``none`` for baselines, counts and descriptions."""
    description: str


_METRICS: tuple[tuple[str, str, Literal["higher", "lower", "none"], str], ...] = (
    (VARIANCE, "squared feature", "none", "population variance of a feature over the training patches, float64"),
    (SHARE_OF_VARIANCE, "share", "none", "share of the summed variance that the `m` leading features hold"),
    (MAX_TO_MEDIAN_VARIANCE, "ratio", "none", "largest variance over the median one"),
    (OVERLAP, "features", "none", "features among the `m` of highest variance both here and in `reference`"),
    (OVERLAP_SHARE, "share", "none", "`overlap` over `m`"),
    (CHANCE_OVERLAP, "features", "none", "expected `overlap` of unrelated sets, m²/D for D features"),
    (CHANCE_OVERLAP_LOW, "features", "none", "2.5 % quantile of the `overlap` of unrelated sets (hypergeometric)"),
    (CHANCE_OVERLAP_HIGH, "features", "none", "97.5 % quantile of the `overlap` of unrelated sets (hypergeometric)"),
    (PATCH_MIOU, "share", "higher", "mean IoU over classes in truth or prediction (cityscapesScripts), void left out"),
    ("pixel_miou", "share", "higher", "`patch_miou` with pixels counted"),
    ("patch_miou_all", "share", "higher", "mean IoU over all classes of the class table, absent ones counted as 0"),
    ("pixel_miou_all", "share", "higher", "`patch_miou_all` with pixels counted"),
    (MAJORITY_MIOU, "share", "none", "baseline: `patch_miou` of predicting the most common training class"),
    (PATCH_ACCURACY, "share", "higher", "patches whose class is right"),
    ("pixel_accuracy", "share", "higher", "pixels whose class is right"),
    (PATCH_IOU, "share", "higher", "IoU of one class; empty where it is in neither truth nor prediction"),
    ("pixel_iou", "share", "higher", "`patch_iou` with pixels counted"),
    (MEMORY_PATCHES, "patches", "none", "training patches among which neighbours were searched"),
    (REDONE_IN_FLOAT64, "share", "none", "queries whose neighbours float32 could not decide"),
    (PATCH_MIOU_DIFFERENCE, "share", "higher", "`patch_miou` less that of `reference` (interval paired over images)"),
    (PATCH_MIOU_RATIO, "ratio", "higher", "`patch_miou` over that of `reference`"),
    (PREDICTED_ENTROPY, "nats", "none", "entropy of the predicted classes; a collapse is 0"),
    (LARGEST_PREDICTED_SHARE, "share", "none", "share of the class that is predicted most often; a collapse is 1"),
    (SHARE, "share", "none", "queries whose nearest patch is as `outcome` says; the gallery lacks `reference`"),
    (RECALL, "share", "higher", "queries with a patch of the same category among the first `k`"),
    (AVERAGE_PRECISION, "share", "higher", "mean precision at each patch of the same category among the first `k`"),
    (UPPER_BOUND, "share", "none", "queries that have a corresponding patch at all"),
    (IMAGE_ACCURACY, "share", "higher", "images whose class is right"),
    (IMAGE_ACCURACY_DIFFERENCE, "share", "higher", "`image_accuracy` under a view less that of `reference`"),
    (MAJORITY_ACCURACY, "share", "none", "baseline: `image_accuracy` of predicting the most common training class"),
    (INSTANCE_ACCURACY, "share", "higher", "objects whose nearest later object is the same, vanished ones left out"),
    (INSTANCE_ACCURACY_ALL, "share", "higher", "`instance_accuracy` with vanished objects counted as errors"),
    (CATEGORY_ACCURACY, "share", "higher", "objects whose nearest later object has the same category"),
    (CATEGORY_ACCURACY_ON_FAILURE, "share", "higher", "`category_accuracy` where the nearest object is another one"),
    (CHANCE, "share", "none", "baseline: mean of one over the number of candidates"),
    (GAP_SECONDS, "seconds", "none", "mean time between the two frames"),
    (HOTA, "share", "higher", "HOTA of true boxes joined to tracks"),
    (DET_A, "share", "none", "detection part of HOTA, 1 where boxes are matched by identity"),
    (ASS_A, "share", "higher", "association part of HOTA"),
    (IDF1, "share", "higher", "F1 of identities over whole videos"),
    (ID_SWITCHES, "switches", "lower", "how often an object's track changes, all videos together"),
    (R2, "ratio", "higher", "coefficient of determination on validation rows; without `class` the classes' mean"),
    (R2_DIFFERENCE, "ratio", "none", "mean `r2` less that of `reference` (interval paired over images)"),
    (INVALID_ROWS, "rows", "none", "rows of `n_units` left out as marked invalid; only where there are some"),
    (MSE_NORMALISED, "squared target", "lower", "MSE of masked patches (of all where none is), as decoder targets"),
    ("mse_normalised_visible", "squared target", "lower", "`mse_normalised` over the patches that are not masked"),
    ("mse_normalised_all", "squared target", "lower", "`mse_normalised` over all patches"),
    (MSE_NORMALISED_RATIO, "ratio", "lower", "`mse_normalised` over that of nothing zeroed (interval paired)"),
    (MSE_NORMALISED_OF_MEAN_PATCH, "squared target", "none", "baseline: `mse_normalised` of the mean visible patch"),
    (MSE_NORMALISED_OVER_MEAN_PATCH, "ratio", "lower", "`mse_normalised` over that of the mean visible patch"),
    (MSE_PIXELS, "squared RGB", "lower", "MSE of masked patches (of all where none is), as clipped RGB in 0..1"),
    ("mse_pixels_visible", "squared RGB", "lower", "`mse_pixels` over the patches that are not masked"),
    ("mse_pixels_all", "squared RGB", "lower", "`mse_pixels` over all patches"),
    (MSE_PIXELS_RATIO, "ratio", "lower", "`mse_pixels` over that of nothing zeroed (interval paired)"),
    (PSNR, "dB", "higher", "peak signal-to-noise ratio of whole reconstructed tiles, mean over tiles"),
    (SSIM, "ratio", "higher", "structural similarity of whole reconstructed tiles, mean over tiles"),
    (PENALTY, "ratio", "none", "L2 penalty chosen for the probe"),
    (CONVERGED, "0 or 1", "higher", "whether the fit of the probe converged"),
    (TRIALS_CONVERGED, "share", "higher", "of the fits that the penalty was chosen from, how many converged"),
    (TRAINING_LOSS, "nats", "lower", 'mean cross-entropy of the last epoch of a probe with `probe = "adamw"`'),
    (AGREEMENT, "share", "none", "images of which the model and `reference` predict the same class"),
    (ERROR_CONSISTENCY, "ratio", "none", "Cohen's kappa of being right, model and `reference`; 0 is chance"),
    (COSINE, "ratio", "none", "mean cosine of an image's vector and its vector under the view"),
    (RANDOM_COSINE, "ratio", "none", "baseline: mean cosine with the vectors of other images under the view"),
    (INVARIANCE, "ratio", "none", "`cosine` less `random_cosine`"),
    (ATTENTION_DISTANCE_PX, "px of the input", "none", "mean distance from query to key patch, weighted by attention"),
    (ATTENTION_DISTANCE_UNIT, "sides of the grid", "none", "`attention_distance_px` with patches on the unit square"),
    (ATTENTION_ENTROPY, "nats", "none", "entropy of a query's attention over the patches, mean over queries"),
    (ATTENTION_NMI, "share", "none", "mutual information of query and key patches, normalised; a collapse is 0"),
    (UNIFORM_DISTANCE_PX, "px of the input", "none", "baseline: `attention_distance_px` of uniform attention"),
    (UNIFORM_DISTANCE_UNIT, "sides of the grid", "none", "baseline: `attention_distance_unit` of uniform attention"),
    (UNIFORM_ENTROPY, "nats", "none", "baseline: `attention_entropy` of uniform attention, log N for N patches"),
    (CLASS_ATTENTION_ON_PATCHES, "share", "none", "the class token's attention that is on patches, not prefix tokens"),
    (DELTA_LOG_AMPLITUDE, "nats", "none", "log Fourier amplitude of the tokens less that of frequency 0"),
    (DELTA_LOG_AMPLITUDE_HIGHEST, "nats", "none", "`delta_log_amplitude` of the highest frequency that is taken"),
    (HEAD_COSINE, "ratio", "none", "cosine of the outputs of two heads for the same patch, mean over pairs"),
    (SPACE_COSINE, "ratio", "none", "cosine of two patches of the same input, mean over pairs"),
    (DEPTH_COSINE, "ratio", "none", "cosine of a patch before and after the block, mean over patches"),
    (SPATIAL_VARIANCE, "squared feature", "none", "variance over the patches of an input, mean over features"),
    (LOG_SINGULAR_VALUE, "nats", "none", "log singular value of centred tokens, less the first; `outcome`: of which"),
    (PARTICIPATION_RATIO, "dimensions", "none", "(sum λ)² / sum λ² of the covariance of vectors or patches"),
    (MAP_VARIANCE_SHARE, "share", "none", "share of the tokens' variance that a linear map of them shows"),
    (CKA, "ratio", "none", "unbiased minibatch CKA with a layer of `reference`; 1 alike, about 0 or below independent"),
    (DIVERGENCE_DEPTH, "blocks", "none", "first depth at which `cka` of equal depths is below 0.5; empty where never"),
    (LINEAR_CKA, "ratio", "none", "biased linear CKA over all images, in 0..1; near 1 where they are few"),
    (PROCRUSTES, "ratio", "none", "1 less half the squared orthogonal Procrustes distance, in 0..1"),
    (CCA, "ratio", "none", "mean canonical correlation of the components with 99 % of the variance (SVCCA), in 0..1"),
    (RSA, "ratio", "none", "Spearman correlation of the cosine distances of all pairs of images, in -1..1"),
    (MUTUAL_KNN, "share", "none", "share of an image's `k` nearest neighbours (cosine) that are nearest in both"),
    (GRAM_DRIFT, "squared cosine", "none", "mean squared difference of the cosines of all pairs of an image's patches"),
    (CHANCE_MUTUAL_KNN, "share", "none", "baseline: `mutual_knn` of unrelated representations, k/(n - 1)"),
    (REMOVED_VARIANCE_SHARE, "share", "none", "share of the training patches' variance that a treatment takes out"),
    (REMOVED_OVERLAP, "share", "none", "mean squared cosine of what a treatment and `reference` take out; 1 is inside"),
    (CHANCE_REMOVED_OVERLAP, "share", "none", "baseline: `removed_overlap` of random directions, max(a, b)/D"),
    (
        POSITION_SHARE,
        "share",
        "none",
        "share of the variance between places on the grid, less chance; the data's layout counts",
    ),
    (NORM_MEDIAN, "feature", "none", "median length of the patch tokens"),
    (NORM_THRESHOLD, "feature", "none", "median + k MAD of the lengths; of one model, layer and norm, not of others"),
    (NORM_OUTLIER_SHARE, "share", "none", "patches longer than `norm_threshold`; `outcome`: where on the grid"),
    (NORM_BIMODALITY, "ratio", "none", "Sarle's coefficient of the lengths; above 5/9 two modes, or a long tail"),
    (MEDIAN_MAGNITUDE, "feature", "none", "median magnitude of all values (float32 storage: to 1/128)"),
    (LARGEST_TO_MEDIAN, "ratio", "none", "largest magnitude over the median one"),
    (MASSIVE_SHARE, "share", "none", "values whose magnitude is above what `outcome` says"),
    (MASSIVE_IMAGES, "share", "none", "images with a value above 100 and above 1000 medians"),
    (MASSIVE_CHANNELS, "features", "none", "features with a value above 100 and above 1000 medians"),
    (CHANNEL_KURTOSIS, "ratio", "none", "kurtosis of a token's values over its features, mean; normal is 3"),
    (COSINE_SHARE, "share", "none", "of the mean cosine of two images' tokens, what the `m` leading features make"),
    (RANKME, "dimensions", "none", "exp of the entropy of singular values; centring can reverse an order of models"),
    (DECAY_EXPONENT, "ratio", "none", "alpha-ReQ: λ_j ~ j^-α over the ranks in `outcome`; they decide an order"),
    (STABLE_RANK, "dimensions", "none", "sum of the eigenvalues over the largest"),
    (LDS, "cosine", "none", "mean cosine of neighbouring patches less that of patches 6 or more apart"),
    (CDS, "cosine a patch", "none", "minus the slope of the mean cosine over distances of 1 to 8 patches"),
    (RMSC, "ratio", "none", "root mean square distance of tokens of length 1 from their mean, per input"),
    (SRSS, "cosine", "none", "cosine with neighbours of the same class less that with far patches of another one"),
    (DISTANCE_COSINE, "cosine", "none", "mean cosine of two patches of an input that are `x_value` patches apart"),
    (POSITION_R2, "ratio", "none", "R² of the patch's row or column from its token; the data's layout counts"),
    (SHARE_WITHIN_IMAGES, "share", "none", "share of the variance within images"),
    (MEAN_COSINE, "cosine", "none", "mean cosine of pairs of tokens, or of images' mean tokens; `outcome` says which"),
    (UNIFORMITY, "nats", "none", "log mean exp(-2 |x - y|²) of pairs of length 1; 0 where all are equal"),
    (INTRINSIC_DIMENSION, "dimensions", "none", "TwoNN: from the ratio of the distances to two nearest neighbours"),
    (EQUAL_POINTS, "share", "none", "vectors that have an equal one, which TwoNN leaves out"),
    (LIDAR, "dimensions", "higher", "effective rank of images against views; at most the number of images less one"),
)

METRICS: dict[str, Metric] = {entry[0]: Metric(*entry) for entry in _METRICS}
"""Every metric of the built-in analyses by name; the table in evaluate/README.md is made from them."""
