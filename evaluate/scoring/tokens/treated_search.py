"""Neighbours of validation patches among training patches, both with features left out or treated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Int64
from numpy import ndarray

from evaluate.inputs.limits import check_k
from evaluate.inputs.memory import n_patches
from evaluate.kernels.treatments import Treatment, fit_treatment, kept_tokens
from evaluate.neighbours.knn import Metric, Neighbours, nearest
from evaluate.neighbours.query_sections import QueryPass
from evaluate.scoring.patch_classifiers import PatchData

Rankings = Mapping[str | None, Int64[ndarray, " channel"]]
"""Features by decreasing variance: of this experiment under None, of others under the experiment's file."""


@dataclass(frozen=True, eq=False)
class TreatedSearch:
    """Searches of the same patches, one a treatment."""

    patches: PatchData
    rankings: Callable[[], Rankings]
    seed: int
    """Seed of random choices."""
    k: int
    """Neighbours of each patch."""
    metric: Metric
    memory_bytes: int
    """Memory that a search may use beside its inputs."""
    device: str | None
    """Where products are computed; None for numpy."""

    def of(self, treatment: Treatment, results: Mapping[int, str]) -> QueryPass:
        """Return the search with one treatment; raises UserError where it leaves fewer training patches than k.

        Args:
            treatment: what is done to the features.
            results: digests of the results that neighbours are for.
        """
        one = self.patches
        of_row, n_rows = n_patches(one.model, one.array, 1), len(one.validation.rows)

        def search(removed: Sequence[int], start: int, stop: int) -> dict[int, Neighbours]:
            kept, ranking = kept_tokens(treatment, one.bank), self.rankings()[treatment.experiment]
            check_k(self.k, int(kept.sum()))
            treat = fit_treatment(treatment, one.bank, ranking, self.seed, one.placement)
            bank, queries = one.bank if kept.all() else one.bank[kept], one.queries
            # The last bits of treated rows may depend on how many are treated together.
            some = slice(start * of_row, stop * of_row)
            asked = treat(queries[some]) if treatment.is_feature_subset else treat(queries)[some]
            found = nearest(
                treat(bank), asked, self.k, metric=self.metric, memory_bytes=self.memory_bytes, device=self.device
            )
            return dict.fromkeys(removed, found)

        what, n_bank = f"{one.array}, {treatment.label}", n_patches(one.model, one.array, len(one.train.rows))
        return QueryPass(what, (treatment.label,), results, self.k, self.metric, n_bank, n_rows, of_row, search)
