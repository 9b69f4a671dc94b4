"""The sets that were extracted of one model under one view, as a store's index names them."""

from dataclasses import dataclass

from pipeline.recipe import ModelRecipe
from pipeline.views import CLEAN, View


@dataclass(frozen=True)
class Recorded:
    """Digests of the sets that were extracted of one model under one view."""

    model: ModelRecipe
    view: View
    features: str
    labels: str

    @property
    def title(self) -> str:
        """Name for messages: the model, and the view unless it is clean."""
        return self.model.display if self.view is CLEAN else f"{self.model.display}, {self.view.title}"
