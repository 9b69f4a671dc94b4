"""What is compared with what: layers of two models, and layers of a model on clean inputs with those under a view."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluate.inputs.captured import has_blocks
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.views import check_rows
from evaluate.scoring.similarity.compared import ComparedModel, check_same_rows
from evaluate.scoring.similarity.representations import (
    OUTPUT,
    VECTORS,
    Representation,
    Tokens,
    has_class_token,
    representations,
    shared_gram_rows,
)
from evaluate.settings import Layers, Selection
from stores.errors import MissingError

View = tuple[str, float]
"""Name and level."""


@dataclass(frozen=True)
class Wanted:
    """What of the models is compared."""

    tokens: Tokens
    point: str
    layers: Layers
    norm: str
    """``final`` or ``none``, for vectors of outputs."""
    selection: Selection | None
    analysis: str
    """Name of the analysis, for error messages."""

    def split(self, model: ModelSets) -> RowSplit:
        """Return the rows of a model."""
        return RowSplit(model, self.selection, self.analysis)

    def gram_rows(self, model: ModelSets, other: ModelSets) -> int | None:
        """Return the rows of a minibatch of both sides' Gram matrices; None where vectors are compared."""
        return None if self.tokens in VECTORS else shared_gram_rows(model, other)

    def arrays(self, model: ModelSets, gram_rows: int | None, layers: Layers) -> tuple[Representation, ...]:
        """Return the layers' arrays by depth; raises MissingError where they are not stored."""
        return representations(model, self.tokens, self.point, layers, self.norm, gram_rows)


@dataclass(frozen=True)
class Pair:
    """Two sides that are compared."""

    own: ComparedModel
    other: ComparedModel
    """The same object for a model with itself."""
    gram_rows: int | None
    """Rows of a minibatch of Gram matrices; None for vectors."""
    view: View | None = None
    """The view of the other side, whose layers are those of the one side; None for clean inputs."""


def pairs_of_models(models: Sequence[ModelSets], wanted: Wanted) -> Iterator[Pair]:
    """Yield every pair of models, and every model with itself; those without the token, or the point, are left out.

    Raises UserError for sets of different rows, MissingError for what is not stored.

    Args:
        models: stored sets of the models.
        wanted: what of them is compared.
    """
    having = [one for one in models if wanted.tokens != "class-token" or has_class_token(one)]
    if wanted.point != OUTPUT and any(map(has_blocks, having)):
        having = [one for one in having if has_blocks(one)]
    if models and not having:
        raise MissingError(
            f"no model has a stored class token: set prefix = true in [features] and run "
            f"`{models[0].extract_command}`, or leave class-token out of tokens"
        )
    splits = [wanted.split(model) for model in having]
    for index, split in enumerate(splits):
        for other_split in splits[index:]:
            check_same_rows(split.model, other_split.model)
            n_rows = wanted.gram_rows(split.model, other_split.model)
            own = ComparedModel(split, wanted.arrays(split.model, n_rows, wanted.layers))
            other = own
            if other_split is not split:
                other = ComparedModel(other_split, wanted.arrays(other_split.model, n_rows, wanted.layers))
            yield Pair(own, other, n_rows)


def pairs_of_views(views: Sequence[tuple[ModelSets, Sequence[View]]], wanted: Wanted) -> Iterator[Pair]:
    """Yield every model with itself under each view, in the layers that both have.

    Raises UserError for other rows under a view, MissingError for what is not stored of one.

    Args:
        views: models with the names and levels of views.
        wanted: what of them is compared.
    """
    for model, of_model in views:
        lacks_token = wanted.tokens == "class-token" and not has_class_token(model)
        if lacks_token or (wanted.point != OUTPUT and not has_blocks(model)):
            continue
        for name, level in of_model:
            viewed = model.for_view(name, level)
            check_rows(model, model.views[name, level])
            where = f"{model.title} under {name} {level:g}"
            try:
                n_rows = wanted.gram_rows(model, viewed)
                there = wanted.arrays(viewed, n_rows, "all")
            except MissingError:
                raise MissingError(_missing(where, model, wanted)) from None
            here = {one.name: one for one in wanted.arrays(model, n_rows, wanted.layers)}
            shared = [one for one in there if one.name in here]
            if not shared:
                raise MissingError(
                    f"{where} has none of the layers of `layers` ({', '.join(here)}), only "
                    f"{', '.join(one.name for one in there)}: add them to `layers` of [[views]] and run "
                    f"`{model.extract_command}`"
                )
            own = ComparedModel(wanted.split(model), tuple(here[one.name] for one in shared))
            yield Pair(own, ComparedModel(wanted.split(viewed), tuple(shared)), n_rows, (name, level))


def left_out(models: Sequence[ModelSets], tokens: Sequence[Tokens], points: Sequence[str]) -> list[str]:
    """Return what is left out of which model, and why, for notes: class tokens, and points inside of blocks.

    Args:
        models: stored sets of the models.
        tokens: what stands for images.
        points: where in the blocks.
    """
    lacking = [one.title for one in models if "class-token" in tokens and not has_class_token(one)]
    inside = ", ".join(point for point in points if point != OUTPUT)
    staged = [one.title for one in models if inside and not has_blocks(one)]
    if len(staged) == len(models):
        staged = []
    of_tokens = [f"class tokens of {title}, which has none stored" for title in lacking]
    return of_tokens + [f"{inside} of {title}, which has no transformer blocks" for title in staged]


def _missing(where: str, model: ModelSets, wanted: Wanted) -> str:
    if wanted.tokens in VECTORS and wanted.point != OUTPUT:
        return (
            f'{where} has no stored tokens at "{wanted.point}", which are kept of clean inputs alone: leave `views` or '
            "this point out of similarity"
        )
    if wanted.tokens in VECTORS:
        return (
            f'{where} has no complete tokens with norm = "{wanted.norm}", of which similarity of "{wanted.tokens}" is '
            f"computed: add them to its [[views]] table and run `{model.extract_command}`"
        )
    return (
        f'{where} has no complete Gram matrices at "{wanted.point}": set captures = ["grams"] in its [[views]] table '
        f'and run `{model.extract_command}`, or ask for tokens = ["class-token"] or ["mean-patch"]'
    )
