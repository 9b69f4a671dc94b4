"""Pictures of patch tokens: principal components as colours, norms, and cosines with chosen query patches.

What people look at first: whether parts of objects have a colour of their own, which tokens have an aberrant norm
(Darcet et al., 2309.16588, figure 2), and which patches resemble a chosen one (Siméoni et al., DINOv3, 2508.10104,
figure 3). Components are those of all shown images together, by layer or of all layers (``basis``), and each layer has
a scale of colours of its own; signs and the rule of the foreground stand in evaluate/kernels/tokens/pictures.py.
Pictures show and prove nothing: three components may have a small share of the variance, which the rows state.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import Work
from evaluate.results.metrics import MAP_VARIANCE_SHARE
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.retrieval.examples import pixels_of
from evaluate.scoring.tokens.captured_task import ScoredTask, reading_numbers
from evaluate.scoring.tokens.maps import shown_rows
from evaluate.scoring.tokens.pictures import PictureOptions, picture_bytes, token_pictures
from evaluate.settings import Context, LayerSettings
from evaluate.task import ModelTask

Picture = Literal["components", "norm", "cosine"]
Share = Annotated[float, Field(ge=0, le=1)]


class TokenPictures(LayerSettings):
    """Principal components as colours, norms, and cosines with query patches, as pictures of a few inputs."""

    kind: Literal["token-pictures"]
    pictures: Annotated[tuple[Picture, ...], Field(min_length=1)] = ("components", "norm", "cosine")
    """What is shown."""
    images: int = Field(default=3, ge=1, le=32)
    """Images that are shown, one tile of each; of the most common image classes where there are some, else spread."""
    queries: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=1)] = ((0.5, 0.5),)
    """Places of the query patches of ``cosine``: from the top and from the left, as shares of the input."""
    basis: Literal["layer", "layers"] = "layer"
    """``layers`` colours all layers by the same components, those of their tokens together; ``layer`` each by its own.
    Images always share them; the scale of the colours is each layer's own."""
    foreground: bool = False
    """Colour the foreground only: the side of the first component with fewer tokens on the images' borders."""


@dataclass(frozen=True, eq=False)
class TokenPicturesTask(ScoredTask[TokenPictures]):
    """Pictures of some layers of one model, and which share of the variance the colours show."""

    layers: tuple[str, ...] = ()
    """Addresses of the token arrays, inner layers first; `array` is the last of them."""

    analysis = "token-pictures"
    revision = 2
    what = "pictures of tokens of {task.title}"
    key_settings = ("pictures", "queries", "basis", "foreground")
    key_rows = ("shown_samples",)

    @classmethod
    def tasks(
        cls, models: Sequence[ModelSets], settings: TokenPictures, context: Context
    ) -> Iterator[ModelTask[TokenPictures]]:
        """Yield one task a model."""
        for model in models:
            layers = tuple(model.arrays(settings.selected_layers, settings.norm))
            yield cls(model, layers[-1], settings, context, RowSplit(model, context.selection, cls.analysis), layers)

    @cached_property
    def shown(self) -> Int64[np.ndarray, " image"]:
        """The rows that are shown, one an image."""
        return shown_rows(self.model, self.scored, self.settings.images, self.settings.images)

    @property
    def shown_samples(self) -> list[str]:
        """Names of these rows, for the key."""
        return [str(name) for name in self.model.samples["sample"].to_numpy()[self.shown]]

    def parameters(self) -> dict[str, Any]:
        """Return the settings, and the rows that are shown."""
        return {**self.settings.model_dump(mode="json", include=set(self.key_settings)), "samples": self.shown_samples}

    def inputs(self) -> dict[str, str]:
        """Return the digests of the tokens, and of the inputs' pixels where they are stored."""
        inputs = {**super().inputs(), **{name: self.model.features.content[name] for name in self.layers}}
        pixels = pixels_of(self.model)
        return inputs | ({pixels: self.model.labels.content[pixels]} if pixels else {})

    def compute(self) -> Result:
        """Return the share of variance that the colours show of each layer, and the pictures."""
        options = PictureOptions(
            self.settings.pictures, self.settings.queries, self.settings.basis, self.settings.foreground
        )
        arrays, shares = token_pictures(self.model, self.layers, self.shown, options)
        rows = [
            score_row(
                MAP_VARIANCE_SHARE,
                None if np.isnan(share) else share,
                outcome="three components",
                array=address.partition("/")[2],
                layer=self.model.layer(address),
                x_value=self.model.layer(address) + 1.0,
            )
            for address, share in zip(self.layers, shares, strict=False)
        ]
        return Result(rows, arrays)

    def work(self) -> Work:
        """Estimate the operations: the products of all shown tokens, and the components of every layer."""
        total = Work()
        for address in self.layers:
            n_tokens, width = len(self.shown) * int(np.prod(self.model.grid(address))), self.model.n_channels(address)
            total += Work(4.0 * n_tokens * width**2, 10.0 * width**3)
            total += reading_numbers(self.model, address, len(self.shown))
        return total

    def peak_bytes(self) -> int:
        """Estimate peak memory: the tokens of the shown images in float32 and float64, of one layer or of all."""
        return picture_bytes(self.model, self.layers, len(self.shown), self.settings.basis)
