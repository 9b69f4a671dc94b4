"""Tasks about vectors of images: which kinds of them a model has."""

from collections.abc import Iterator, Sequence

from evaluate.inputs.model_sets import ModelSets
from evaluate.scoring.images.vectors import Pooled
from evaluate.scoring.similarity.representations import has_class_token
from evaluate.settings import Context
from evaluate.task import ModelTask, S
from stores.format.paths import OF_LAYERS


class PooledTask(ModelTask[S]):
    """A task about the kinds of vectors in ``pooled`` of its settings; models without a class token have fewer.

    Where such a model is left with no kind, all stay, so that the check names what is missing.
    """

    @classmethod
    def tasks(cls, models: Sequence[ModelSets], settings: S, context: Context) -> Iterator[ModelTask[S]]:
        """Yield the tasks of some models, each with the kinds of vectors that it has."""
        for model in models:
            own = settings.model_copy(update={"pooled": kinds_of(model, _asked(settings))})
            yield from cls.of_model(model, own, context)

    @classmethod
    def notes(cls, models: Sequence[ModelSets], settings: S) -> list[str]:
        """Return one note a model that has no class token, where other kinds are asked for too."""
        lacking = [model.title for model in models if kinds_of(model, _asked(settings)) != _asked(settings)]
        return [f"{cls.analysis} leaves out class tokens of {title}, which has none" for title in lacking]


def kinds_of(model: ModelSets, asked: tuple[Pooled, ...]) -> tuple[Pooled, ...]:
    """Return those kinds of vectors that a model has; all where it has none, and where it only has not kept some.

    Backbones of stages have no class token. A ViT that was extracted without is refused: it can be kept.

    Args:
        model: The model's sets.
        asked: What stands for an image.
    """
    if has_class_token(model) or not has_stages(model):
        return asked
    return tuple(one for one in asked if one == "mean-patch") or asked


def has_stages(model: ModelSets) -> bool:
    """Return whether the layers of a model are stages of a backbone, which have neither a norm nor prefix tokens."""
    arrays = [array for array in model.features.arrays.values() if array.group in OF_LAYERS]
    return bool(arrays) and all(array.is_normed is None for array in arrays)


def _asked(settings: object) -> tuple[Pooled, ...]:
    asked: tuple[Pooled, ...] = getattr(settings, "pooled")  # noqa: B009  (all settings of these tasks have it)
    return asked
