"""Frequencies of the tokens against depth: the log amplitude of their Fourier transform, relative to frequency 0.

``mean over images of log A_i - log A_0`` with the amplitudes ``A`` along the half diagonal of the frequency plane as
they were captured (``captures = ["frequency"]``, pipeline/captures/frequency.py). Park et al. (ICLR 2023) as
their code has it (naver-ai/cl-vs-mim, representation_analysis.ipynb), after Park and Kim (ICLR 2022). Depth is in
blocks: 0 is the embedding, half numbers are the sums after the attention, where ``capture_points`` names them. The
highest frequency is one below half a cycle a patch (6/14 for 14 x 14 patches), so that it is another one for another
grid. Differences are of natural logarithms (nats); low values mean that the tokens change slowly over the image.

``decoder = true`` adds the blocks of MAE's own decoder, which runs on the encoder's stored last tokens, nothing masked;
its depths are counted from its own embedding, 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from evaluate.decoder import BlockDecoder
from evaluate.inputs.captured import captured_arrays, captured_rows, capturing, has_blocks
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.kernels.tokens.fourier import log_amplitudes, relative_to_first
from evaluate.results.metrics import DELTA_LOG_AMPLITUDE, DELTA_LOG_AMPLITUDE_HIGHEST
from evaluate.results.table import Result
from evaluate.scoring.tokens.captured_task import CapturedTask, ScoredTask
from evaluate.settings import BootstrapSettings, Context, Layers, Point
from evaluate.task import ModelTask
from stores.errors import MissingError, UserError

BLOCK_BYTES = 8 << 20
"""Stored bytes that are read at a time."""
DECODED = 8
"""Inputs that are decoded at a time; part of what makes equal bytes."""
DECODER_BYTES = 48 << 20
"""What a batch holds in a decoder of MAE's size: tokens of all of its blocks are not kept."""


class Frequency(BootstrapSettings):
    """Log amplitudes of the tokens' Fourier transform, relative to frequency 0 (arXiv 2305.00729)."""

    kind: Literal["frequency"]
    layers: Layers = "all"
    """Captured layers: ``all``, or numbers from 0; negative ones count from the last captured."""
    points: Annotated[tuple[Point, ...], Field(min_length=1)] | None = None
    """Captured points, as in ``capture_points`` of [features]; all of them by default."""
    decoder: bool = False
    """Whether the blocks of MAE's decoder are analysed too, for models whose weights hold one."""


def amplitude_rows(
    task: ScoredTask[Frequency], relative: Float64[np.ndarray, "row frequency"], side: int, **columns: Any
) -> Iterator[dict[str, Any]]:
    """Yield one row a frequency, then the highest one at its depth.

    Args:
        task: the task, whose rows they are.
        relative: log amplitudes less the first.
        side: patches along the shorter side of the grid.
        columns: other columns of the rows; ``x_value`` is the depth.
    """
    for number, values in enumerate(relative.T):
        frequency = {"x_name": "cycles_a_patch", "x_value": number / side}
        yield task.mean_row(DELTA_LOG_AMPLITUDE, values, **{**columns, **frequency})
    yield task.mean_row(DELTA_LOG_AMPLITUDE_HIGHEST, relative[:, -1], **columns)


@dataclass(frozen=True, eq=False)
class FrequencyTask(CapturedTask[Frequency]):
    """Log amplitudes at one point of a block."""

    analysis = "frequency"
    what = "frequencies of {task.array}"

    @classmethod
    def tasks(
        cls, models: Sequence[ModelSets], settings: Frequency, context: Context
    ) -> Iterator[ModelTask[Frequency]]:
        """Yield one task a captured point, and one for a model's decoder where it is asked for."""
        for model in capturing(models, cls.analysis, settings.points)[0]:
            split = RowSplit(model, context.selection, cls.analysis)
            points = settings.points if has_blocks(model) else None
            for one in captured_arrays(model, cls.analysis, cls.analysis, layers=settings.layers, points=points):
                yield cls(model, one.address, settings, context, split, one)
            if settings.decoder:
                yield DecoderFrequencyTask.of(model, settings, context, split)

    @classmethod
    def notes(cls, models: Sequence[ModelSets], settings: Frequency) -> list[str]:
        """Return one note a backbone of stages without what is read, beside models that have it."""
        left_out = capturing(models, cls.analysis, settings.points)[1]
        return [f'frequency leaves out {one.title}, whose `captures` have no "frequency" there' for one in left_out]

    def compute(self) -> Result:
        """Return one row a frequency, then the highest one against depth."""
        logs = captured_rows(self.model, self.array, self.scored.rows)
        side = min(self.model.grid(self.array))
        return Result(list(amplitude_rows(self, relative_to_first(logs), side, x_value=self.captured.depth)))


@dataclass(frozen=True, eq=False)
class DecoderFrequencyTask(ScoredTask[Frequency]):
    """Log amplitudes of the tokens in MAE's decoder, block by block."""

    decoder: BlockDecoder
    prefix: str
    """Address of the class token, which the decoder reads too."""

    analysis = "frequency"
    what = "frequencies in the decoder of {task.model.title}"

    @classmethod
    def of(cls, model: ModelSets, settings: Frequency, context: Context, split: RowSplit) -> "DecoderFrequencyTask":
        """Return the task of a model; raises UserError without a decoder of its own, MissingError without its inputs.

        Args:
            model: stored sets of the model.
            settings: the analysis.
            context: what all tasks share.
            split: rows of the model.
        """
        if model.title not in context.decoders:
            raise UserError(
                f"frequency with decoder = true needs the decoder of {model.title} and was given none: run `patchbank "
                "evaluate`, or pass one to evaluate.runner.evaluate"
            )
        decoder = context.decoders[model.title]()
        if not isinstance(decoder, BlockDecoder):
            raise UserError(
                f"the decoder of {model.title} does not give the tokens of its blocks (block_tokens): set decoder = "
                "false in frequency"
            )
        if decoder.encoder != model.spec.model.weights:
            raise UserError(
                f"the decoder of {model.title} belongs to an encoder with other weights than set "
                f"{model.features.digest[:12]} was made with: run `{model.extract_command}` with the present file"
            )
        array = model.arrays((decoder.layer,), "final")[0]
        prefix = f"prefix/{array.partition('/')[2]}"
        if not model.features.sealed(prefix):
            raise MissingError(
                f"{prefix} of {model.title} is not complete in {model.features.objects.url}: set `prefix = true` in "
                f"[features] and run `{model.extract_command}`"
            )
        return cls(model, array, settings, context, split, decoder, prefix)

    def inputs(self) -> dict[str, str]:
        """Return the digests of both arrays; the decoder is named by its own."""
        return super().inputs() | {
            self.prefix: self.model.features.content[self.prefix],
            "decoder": self.decoder.digest,
        }

    def compute(self) -> Result:
        """Return the rows of every depth of the decoder."""
        tokens, prefix = (self.model.features[name] for name in (self.array, self.prefix))
        grid, rows = self.model.grid(self.array), self.scored.rows
        by_depth: dict[int, list[np.ndarray]] = {}
        step = max(1, BLOCK_BYTES // tokens.spec.row_bytes // DECODED) * DECODED
        for start in range(0, len(rows), step):
            read = rows[start : start + step]
            joined = np.concatenate([prefix[read], tokens[read]], axis=1, dtype=np.float32)
            for first in range(0, len(read), DECODED):
                for depth, patches in enumerate(self.decoder.block_tokens(joined[first : first + DECODED])):
                    by_depth.setdefault(depth, []).append(log_amplitudes(patches, grid))
        found: list[dict[str, Any]] = []
        for depth, parts in by_depth.items():
            relative = relative_to_first(np.concatenate(parts))
            name = f"decoder.block.{depth - 1}" if depth else "decoder.embedding"
            columns = {"array": name, "layer": None, "normed": None, "outcome": "decoder", "x_value": float(depth)}
            found += amplitude_rows(self, relative, min(grid), **columns)
        return Result(found)

    def peak_bytes(self) -> int:
        """Estimate peak memory beside the decoder: a few inputs are decoded at a time."""
        reading = sum(reading_bytes(self.model, name) for name in (self.array, self.prefix))
        kept = 8 * 64 * len(self.scored.rows) * max(1, min(self.model.grid(self.array)) // 2)
        return reading + 6 * BLOCK_BYTES + DECODER_BYTES + kept + self.resampling_bytes
