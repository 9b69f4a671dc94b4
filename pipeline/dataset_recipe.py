"""The ``[dataset]`` table of an experiment: which images are read, and from where."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stores.specs import Record

Channel = Annotated[int, Field(ge=0, le=255)]


class ManifestClass(Record):
    """One class of a manifest; its position in the list is its id in stored labels."""

    name: str = Field(min_length=1)
    """Name in figures and tables, and in the column `class`."""
    ids: tuple[Annotated[int, Field(ge=0, le=255)], ...] | None = None
    """Ids in mask files that mean this class; by default its position in the list, from 0."""
    supercategory: str | None = None
    """Name of a group of classes; by default the class's own name."""
    colour: tuple[Channel, Channel, Channel] | None = None
    """Red, green, blue, 0..255; by default spread around the colour circle."""


class FewShot(Record):
    """Chooses rows by their labels; `[selection]` then chooses among these."""

    unit: Literal["tiles", "images"]
    """``tiles`` takes, for every class in the order of the class table, tiles that show enough of one of its objects
    (paper A, FAIR1M); ``images`` takes, for every class from the rarest on, images that contain it (paper A,
    ADE20K). What one class has taken is not available to the next. Difficult and ignored objects count too."""
    per_class: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Number per class, by split, such as ``{ train = 4, val = 2 }``; other splits are excluded. A class that has fewer
    gets all of them."""
    share: float = Field(default=1 / 3, gt=0, le=1)
    """For ``tiles``: share of an object's area that a tile must show."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order in which tiles or images are taken."""


class DatasetRecipe(Record):
    """The source images and their reader."""

    name: str
    """Name of the layout; `patchbank datasets` lists all."""
    folder: str | None = None
    """Folder below the data root (``--data`` or ``PATCHBANK_DATA``); by default one of the official names that
    `patchbank datasets` lists, for a manifest the data root."""
    file: str | None = None
    """For ``manifest``: a CSV or Parquet file in the folder, with the column image (a path relative to the folder)
    and any of mask, class, group, split, video, frame."""
    classes: tuple[ManifestClass, ...] = ()
    """For ``manifest``: the classes, as `[[dataset.classes]]` tables; required for masks. By default the sorted names
    in the column class."""
    void_ids: tuple[Annotated[int, Field(ge=0, le=255)], ...] = (255,)
    """For ``manifest``: ids in mask files that mean unlabelled."""
    licence: str | None = None
    """Terms of use of the data, in one line; by default those of the official data set."""
    few_shot: FewShot | None = None
    """A `[dataset.few_shot]` table: chooses rows by their labels; without it all are taken."""
    bad_samples: Literal["stop", "keep-invalid"] = "stop"
    """How to treat an image that cannot be decoded or is smaller than a tile, or whose label is missing or broken:
    ``stop`` the run, or ``keep-invalid``: keep its rows, marked invalid with the reason; every analysis excludes and
    counts them. If more than 1 % of the images, and more than one, are bad, the run stops in any case.
    ``keep-invalid`` decodes every image once before the first forward pass; `plan` does the same without saving the
    findings. `few_shot` reads labels before there are rows: under ``keep-invalid`` it excludes images with bad labels,
    within the same limit, and reports them."""

    @model_validator(mode="after")
    def _manifest_keys(self) -> "DatasetRecipe":
        if self.name == "manifest" and self.file is None:
            raise ValueError('name = "manifest" needs file, such as file = "photos.csv"')
        if self.name != "manifest" and (self.file is not None or self.classes or self.void_ids != (255,)):
            raise ValueError('file, classes and void_ids belong to name = "manifest"')
        names = [one.name for one in self.classes]
        ids = [*self.void_ids, *(one for group in self.mask_ids for one in group)]
        for what, values in (("name", names), ("mask id", ids)):
            twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
            if twice is not None:
                raise ValueError(f"the {what} {twice!r} is given twice in classes and void_ids")
        return self

    def canonical(self) -> dict[str, Any]:
        """Return what the rows depend on as plain JSON values; the default of ``bad_samples`` is not part of it."""
        without = {"licence"} | ({"bad_samples"} if self.bad_samples == "stop" else set())
        return self.model_dump(mode="json", exclude=without)

    @property
    def mask_ids(self) -> tuple[tuple[int, ...], ...]:
        """The ids in mask files of every class, with defaults filled in."""
        return tuple((index,) if one.ids is None else one.ids for index, one in enumerate(self.classes))
