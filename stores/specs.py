"""Frozen records that describe a set and its arrays; a set is named by the digest of its record.

A `FeatureSpec` lists every choice that changes a stored number and nothing else; the sha256 of its canonical
JSON names the feature set. Splits, subsets, layers, norms, paths, batch sizes, devices and dates stay out: the
first four are choices of rows and arrays, the others must not matter. `LabelSpec` does the same for what is
known about the samples, so that new labels never need another pass of a model.

Changing a field or a default here changes the digests, and no stored set is found again;
``tests/stores/test_specs.py`` compares them with fixed values.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from stores.canonical import digest
from stores.canonical import relative_name as relative_name
from stores.canonical import samples_digest as samples_digest
from stores.canonical import sources_digest as sources_digest
from stores.notebook import html_table

FORMAT_VERSION = 2
"""Version of the on-disk format that stores/README.md describes."""

VOID = 255
"""Label id of pixels and patches that have no class, and the fill value of label arrays."""

MOST_ROW_BYTES = 1 << 30
"""Size of the largest row of an array, in bytes: what one read may need, whatever a record says."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A sha256, as 64 hexadecimal characters."""


def _as_tuple(value: Any) -> Any:
    """Return a list, and lists in it, as tuples; any other value as it is."""
    return tuple(_as_tuple(one) for one in value) if isinstance(value, list) else value


class Record(BaseModel):
    """Base of all records: frozen, validated on construction, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        """Turn lists, as TOML and JSON have them, into the tuples that frozen records hold."""
        return {key: _as_tuple(value) for key, value in values.items()} if isinstance(values, dict) else values

    def _repr_html_(self) -> str:
        return html_table(repr(self), ("key", "value"), self.canonical().items())

    def canonical(self) -> dict[str, Any]:
        """Return the record as plain JSON values, which are hashed and stored."""
        return self.model_dump(mode="json")


class Size(Record):
    """Height and width in pixels."""

    height: int = Field(ge=1, le=65_536)
    """In pixels."""
    width: int = Field(ge=1, le=65_536)
    """In pixels."""

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def _square(value: Any) -> Any:
    """Return a bare integer as a square size, for ``tile = 256`` in TOML."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"height": value, "width": value}
    return value


SquareOrSize = Annotated[Size, BeforeValidator(_square)]


class ShorterSide(Record):
    """Size with the aspect ratio of each image, given by its shorter side (torchvision's ``Resize(256)``)."""

    shorter: int = Field(ge=1, le=65_536)
    """Length of the shorter side, in pixels; the longer one is int(shorter * long / short)."""

    def __str__(self) -> str:
        return f"shorter side {self.shorter}"

    def resized(self, size: Size) -> tuple[int, int]:
        """Return the height and width, in pixels, of an image of this size after resizing."""
        short = min(size.height, size.width)
        return self.shorter * size.height // short, self.shorter * size.width // short


def _kind_of_resize(value: Any) -> str:
    is_side = isinstance(value, ShorterSide) or (isinstance(value, dict) and "shorter" in value)
    return "shorter" if is_side else "size"


SizeOrShorterSide = Annotated[
    Annotated[SquareOrSize, Tag("size")] | Annotated[ShorterSide, Tag("shorter")], Discriminator(_kind_of_resize)
]


class FrameSpec(Record):
    """How source images are resized and cut into model inputs; the same for all models of an experiment.

    The source is resized to ``resize`` (if given), cut into ``tile`` sized tiles in row-major order (if given,
    otherwise it is one tile), and every tile is resized to ``input``.
    """

    input: SquareOrSize
    """Size of a model input, in pixels."""
    tile: SquareOrSize | None = None
    """Size of a tile in pixels of the (resized) source; None takes the whole source as one tile."""
    resize: SizeOrShorterSide | None = None
    """Size the source is brought to first; None keeps it. ``{ shorter = 256 }`` resizes the shorter side and keeps the
    aspect ratio."""
    edge: Literal["drop", "pad", "shift-last", "centre"] = "drop"
    """What happens where tiles do not divide the source: the rest is dropped, padded with black (void label),
    or the last tile is shifted back inside so that it overlaps its neighbour (shared pixels are scored once).
    ``centre`` takes one tile only, from the centre of the image, and drops all around it (torchvision's
    ``CenterCrop``): with ``resize = { shorter = 256 }, tile = 224, input = 224`` the usual transform for evaluation."""

    @model_validator(mode="after")
    def _edge_needs_tiles(self) -> "FrameSpec":
        if self.tile is None and self.edge != "drop":
            raise ValueError(f'edge = "{self.edge}" needs a tile size')
        return self


class ViewSpec(Record):
    """A deterministic transform of (source image, tile box) with its labels."""

    name: str = "clean"
    revision: int = 1
    parameters: dict[str, int | float | str] = Field(default_factory=dict)


class DatasetRecord(Record):
    """The data set reader and the source images it read."""

    name: str
    revision: int = Field(ge=1)
    """Revision of the reader; raised when its output changes for the same files."""
    n_sources: int = Field(ge=1)
    sources: Digest
    """`sources_digest` of the images' relative names and the sha256 of their files."""


class ModelRecord(Record):
    """A frozen model: everything about it that changes its features."""

    name: str
    """Architecture name, or the name a user gives to their own module."""
    family: str
    """The file in pipeline/models that built it."""
    revision: int = Field(ge=1)
    arguments: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """What was passed to the architecture beside its name and the input size."""
    weights: Digest
    """sha256 over the loaded encoder's sorted state dict."""
    position_embedding: str
    """How the position embedding was resized to this grid: ``native`` (not), ``timm-resample``, ``hub`` or
    ``beit-resample``."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Normalisation of pixels in 0..1."""
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest", "box"]
    """Filter for resizing images; labels are always resized with nearest."""


class FeatureSpec(Record):
    """Record of a feature set: every choice that changes a stored feature. Its digest names the set."""

    kind: Literal["features"] = "features"
    format: Literal[2] = 2
    dataset: DatasetRecord
    samples: Digest
    """`samples_digest` of the rows: the source image and tile of every row."""
    frame: FrameSpec
    view: ViewSpec
    model: ModelRecord
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    store_dtype: Literal["float16", "float32"] = "float16"
    revisions: dict[str, int]
    """Revision of every piece of code between the files and the stored values, by its name."""

    @property
    def digest(self) -> str:
        """The set's name."""
        return digest(self.canonical())

    def __repr__(self) -> str:
        return f"<FeatureSpec {self.digest[:12]}: {self.model.name} on {self.dataset.name}, {_framed(self)}>"


class LabelSpec(Record):
    """Record of a label set: every choice that changes a stored label. Its digest names the set."""

    kind: Literal["labels"] = "labels"
    format: Literal[2] = 2
    dataset: DatasetRecord
    samples: Digest
    frame: FrameSpec
    view: ViewSpec
    label_files: Digest | None
    """`sources_digest` of the label files; None for data without label files."""
    facts: Digest
    """Digest of what is known about whole sources: group, split, image class, video, frame and time."""
    classes: Digest
    """Digest of the class table (id, name, super, colour, easy)."""
    pixel_labels: bool
    """Whether there is a class for every pixel."""
    objects: bool
    """Whether there is a table of objects with their outlines."""
    patch_rule: Literal["majority"] = "majority"
    """How a patch gets its label from its pixels: the most common id, void counted as a candidate, ties to the
    lowest id (paper A, section 3.1: "most common class in the patch")."""
    revisions: dict[str, int]
    """Revision of every piece of code between the files and the stored labels, by its name."""

    @property
    def digest(self) -> str:
        """The set's name."""
        return digest(self.canonical())

    def __repr__(self) -> str:
        return f"<LabelSpec {self.digest[:12]}: {self.dataset.name}, {_framed(self)}>"


def _framed(spec: FeatureSpec | LabelSpec) -> str:
    return f"view {spec.view.name}, input {spec.frame.input}"


class ArraySpec(Record):
    """One array of a set: its address inside the set, its row shape and what it holds."""

    name: str = Field(pattern=r"^[a-z0-9]+/[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Address ``group/array``, for example ``tokens/block.11.norm``."""
    row_shape: tuple[int, ...]
    """Shape of one row; the array's shape is ``(n_rows, *row_shape)``."""
    dtype: Literal["float16", "float32", "float64", "uint8", "uint16", "int32", "int64"]
    dimension_names: tuple[str, ...]
    """Axis names, the row axis first, as in xarray and in the shapes of signatures."""
    attributes: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Facts about the array: layer, norm, number of prefix tokens, grid height and width."""

    @model_validator(mode="after")
    def _axes_are_named(self) -> "ArraySpec":
        if len(self.dimension_names) != 1 + len(self.row_shape):
            raise ValueError(
                f"array {self.name} has {1 + len(self.row_shape)} axes and {len(self.dimension_names)} names"
            )
        if any(extent < 1 for extent in self.row_shape):
            raise ValueError(f"array {self.name} has an empty axis: {self.row_shape}")
        if self.row_bytes > MOST_ROW_BYTES:
            raise ValueError(f"array {self.name} has rows of {self.row_bytes} bytes, more than {MOST_ROW_BYTES}")
        return self

    @property
    def row_bytes(self) -> int:
        """Size of one row, in bytes."""
        size = int(self.dtype.lstrip("uintfloa")) // 8
        for extent in self.row_shape:
            size *= extent
        return size

    @property
    def group(self) -> str:
        """First part of the address, such as ``tokens``."""
        return self.name.partition("/")[0]

    @property
    def layer(self) -> int | None:
        """Block or stage that the rows come from, counted from 0; None where they come from none."""
        layer = self.attributes.get("layer")
        return layer if isinstance(layer, int) else None

    @property
    def is_normed(self) -> bool | None:
        """Whether the rows went through the model's final norm; None where there is no norm to choose."""
        norm = self.attributes.get("norm")
        return norm if isinstance(norm, bool) else None

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the patch grid; None for arrays without one."""
        rows, columns = self.attributes.get("grid_rows"), self.attributes.get("grid_columns")
        return None if rows is None or columns is None else (int(rows), int(columns))

    @property
    def fill(self) -> float | int:
        """Value of rows that are not committed, which no valid row has: NaN, 255 (void), 65535 or -1."""
        if self.dtype.startswith("float"):
            return float("nan")
        return {"uint8": VOID, "uint16": 65_535, "int32": -1, "int64": -1}[self.dtype]
