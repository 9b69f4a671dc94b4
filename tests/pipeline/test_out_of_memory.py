"""Batches that do not fit the memory of a GPU are halved, and the records say what was used."""

import pytest
import torch

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.computing import recompute
from pipeline.extraction.job import prepare
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import plan_models
from pipeline.models import build_model
from pipeline.recipe import StorageRecipe
from stores import Store
from stores.errors import UserError
from stores.maintenance.verify import verify
from tests.pipeline.tiny import TINY, recipe, write_camvid

CPU = Compute("cpu", batch_size=8, threads=1)
WANTED = recipe(storage=StorageRecipe(range_megabytes=0.004))  # 8 of the 28 rows in a range


@pytest.fixture
def memory(monkeypatch):
    """Memory that holds ``rows`` rows once ``passes`` passes have run; ``seen`` has the rows of each pass."""

    class Memory:
        rows, passes, seen = 1000, 0, []

    original = ModelPass.__call__

    def call(self, pixels, tile_ids=(), rows=None):
        Memory.passes -= 1
        if len(pixels) > Memory.rows and Memory.passes < 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1000 GiB")
        Memory.seen.append(len(pixels))
        return original(self, pixels, tile_ids, rows)

    monkeypatch.setattr(ModelPass, "__call__", call)
    Memory.seen = []
    return Memory


@pytest.fixture
def site(tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    return lambda name: run.Workspace(Store(tmp_path / name), tmp_path / "data", tmp_path)


def extracted(where, compute=CPU, **options):
    return run.extract_recipe(WANTED, where, compute, ExtractOptions(**options)).outcomes[0]


def test_a_first_batch_that_does_not_fit_is_halved_and_recorded(site, memory):
    memory.rows = 3
    made = extracted(site("small"))
    assert [note for note in made.notes if "memory" in note] == [
        "batches of 8 rows do not fit the free memory of cpu: batches of 4 are used",
        "batches of 4 rows do not fit the free memory of cpu: batches of 2 are used",
    ]
    assert set(memory.seen) == {2}
    assert made.set.compute["batch_size"] == 2
    assert (made.rows_made, made.missing) == (28, {})
    assert list(made.set.objects.children(f"{made.set.prefix}/machines")) == []
    alone = extracted(site("alone"), Compute("cpu", batch_size=2, threads=1))
    assert made.set.stored_digest() == alone.set.stored_digest()


def test_a_later_batch_that_does_not_fit_leaves_what_is_committed_and_marks_the_rest(site, memory):
    memory.rows, memory.passes = 4, 2
    made = extracted(site("small"))
    assert any("batches of 4 are used" in note for note in made.notes)
    assert any("batch_size was 8 and is 4 here: the last bits may differ" in note for note in made.notes)
    assert memory.seen[:2] == [8, 8]
    assert set(memory.seen[2:]) == {4}
    assert (made.rows_made, made.rows_reused, made.missing) == (28, 0, {})
    assert made.set.compute["batch_size"] == 8
    assert len(list(made.set.objects.children(f"{made.set.prefix}/machines"))) == 1
    assert all(not verdict.findings for verdict in verify(site("small").store))
    memory.rows = 1000
    again = extracted(site("small"))
    assert (again.rows_made, again.rows_reused) == (0, 28)
    whole = extracted(site("alone"))
    assert whole.set.content == made.set.content, "one thread of this processor gives the same bits in either"


def test_a_set_begun_elsewhere_goes_on_with_the_largest_batch_that_fits_and_is_marked(site, memory):
    where = site("store")
    extracted(where, shard=(0, 2))
    memory.rows = 4
    made = extracted(where)
    assert made.missing == {}
    assert made.set.compute["batch_size"] == 8
    assert len(list(made.set.objects.children(f"{made.set.prefix}/machines"))) == 1


def test_one_row_that_does_not_fit_is_one_sentence_and_writes_nothing(site, memory):
    memory.rows = 0
    where = site("none")
    with pytest.raises(UserError, match=r"^one input of \S+ does not fit the free memory of cpu: .* --device cpu$"):
        extracted(where)
    assert list(where.store.sets()) == []


def test_recomputing_never_takes_another_batch(site, memory, tmp_path):
    where = site("store")
    made = extracted(where).set
    samples = run.read_samples(WANTED, where)
    job = prepare(WANTED, TINY, build_model(TINY, WANTED.frame.input, tmp_path), samples, where.store)
    memory.rows = 4
    with pytest.raises(UserError, match=r"^batches of 8 rows, with which \S+ was made, do not fit the free memory"):
        recompute(job, {made.layout.range(0): job.arrays}, CPU, 1, lambda batch, values: None)


def test_plan_times_what_fits(site, memory):
    memory.rows = 2
    where = site("store")
    (plan,) = plan_models(WANTED, where, run.read_samples(WANTED, where), CPU)
    assert plan.seconds_per_row > 0
    assert memory.seen[-1] == 2
