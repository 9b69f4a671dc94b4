"""What a reader of the report sees of the papers, and what is kept of it beside the results."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.claims import decide_all
from evaluate.claims.paper_numbers import ADE20K, CITYSCAPES, PAPER_NUMBERS, compare
from evaluate.claims.roles import BY_NAME, ROLES, ModelInfo, model_info, role_of
from evaluate.registry import EvaluationSettings
from evaluate.report.claims import claims_section
from evaluate.report.reading import read_stored_results
from evaluate.report.store_state import states
from evaluate.report.writing import rewrite_report, write_report
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from pipeline.models.known import KNOWN
from pipeline.recipe import ModelRecipe, Role
from stores import Store
from tests.evaluate.planted import planted
from tests.evaluate.planted_claims import paper_world
from tests.evaluate.test_patch_classification import SELECTION

# -- roles ------------------------------------------------------------------------------------------------------------


def test_the_experiment_file_knows_the_same_roles():
    assert set(Role.__args__) == set(ROLES)


def test_known_models_play_the_part_of_their_family():
    parts = {name: name for name in ("mae", "simmim", "dino", "dinov2", "ibot", "mocov3")}
    for name, row in KNOWN.items():
        expected = parts.get(row.family, "none")
        if name == "augreg-base":  # another training than the paper's
            expected = "none"
        expected = "mae-finetuned" if name == "mae-finetuned-base" else expected
        expected = "supervised" if name == "supervised-base" else expected
        demonstrated = {f"demo-{role}": role for role in ("mae", "simmim", "dino", "ibot", "supervised")}
        demonstrated |= {"demo-moco": "mocov3", "demo-supervised-image": "supervised"}
        expected = demonstrated.get(name, expected)
        assert role_of(name, None) == expected, name
        if row.tag is not None:
            assert role_of(row.tag, None) == expected, row.tag
    assert set(BY_NAME.values()) <= set(ROLES)


def test_who_says_a_role_is_believed_and_drawn_weights_are_the_control():
    assert ModelRecipe(name="mae-base").effective_role is None
    assert ModelRecipe(name="mae-base", weights="random").effective_role == "random"
    assert ModelRecipe(name="mae-base", weights="random", role="mae").effective_role == "mae"
    assert role_of("mae-base", "none") == "none"
    assert role_of("my-net", "dino") == "dino"


def test_the_first_model_of_a_role_plays_it():
    world = paper_world()
    evidence = world.evidence()
    first = evidence.models_info[0]
    evidence.models_info = (first, first.model_copy(update={"title": "another"}))
    assert evidence.by_role == {first.role: first}


# -- the paper's numbers ----------------------------------------------------------------------------------------------

NAMES = {"mae": "mae-base", "dino": "dino-base", "dinov2": "dinov2-base"}


def printed(n_train=72, n_validation=30, frame=None, data_set="cityscapes", **changes):
    """Return what stands beside the paper of a planted table."""
    images = {"train": ["a"] * n_train, "validation": ["b"] * n_validation}
    params = json.dumps({**images, "metric": "euclidean", "batchnorm": True, **changes.pop("params", {})})
    table = paper_world().table()
    table["params"], table["view"] = params, "clean"
    frame = frame or CITYSCAPES.frame
    models_info = [
        ModelInfo(
            title=ROLES[role], name=name, role=changes.get("role", role), data_set=data_set, frame=frame, width=768
        )
        for role, name in changes.get("names", NAMES).items()
    ]
    return {(one.model, one.what): one for one in compare(table, models_info)}


def test_numbers_stand_beside_ours_where_the_protocol_is_the_papers():
    found = printed()
    # The planted world is the paper's: what matches is equal, whatever the classifier.
    assert found["MAE", "1-NN mIoU"].paper == found["MAE", "1-NN mIoU"].ours == 0.058
    assert found["MAE", "1-NN mIoU, 200 removed"].ours == 0.295
    assert found["MAE", "1-NN mIoU, 10 removed"].source == "section 3.2"
    assert found["DINOv2", "probe mIoU"].paper == 0.590
    assert ("Supervised", "1-NN mIoU") not in found, "a model that is not the paper's"


@pytest.mark.parametrize(
    "other",
    [
        {"n_train": 71},
        {"n_validation": 29},
        {"frame": ADE20K.frame},
        {"data_set": "camvid"},
        {"names": {"mae": "mae-large"}},
        {"role": "random"},
    ],
    ids=str,
)
def test_another_protocol_shows_nothing(other):
    assert printed(**other) == {}


def test_another_distance_or_probe_is_another_protocol():
    assert ("MAE", "1-NN mIoU") not in printed(params={"metric": "cosine"})
    assert ("MAE", "probe mIoU") not in printed(params={"batchnorm": False})
    assert ("DINO", "probe mIoU") in printed(params={"batchnorm": False})


def test_every_printed_number_names_its_place_and_known_models():
    assert len({(one.protocol.data_set, one.models, one.what) for one in PAPER_NUMBERS}) == len(PAPER_NUMBERS)
    tags = {row.tag for row in KNOWN.values()}
    for one in PAPER_NUMBERS:
        assert one.source.startswith(("Table", "section"))
        assert all(name in KNOWN or name in tags for name in one.models)
        assert 0 < one.value < 1


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path, undrawn):
    """A results folder with its page but no figure, its model, and the store it came from."""
    one = planted(tmp_path / "made", n_images=24)
    digests = {}
    for kind, stored in (("features", one.features), ("labels", one.labels)):
        folder = tmp_path / "store" / kind
        folder.mkdir(parents=True)
        Path(stored.objects.url, stored.prefix).rename(folder / stored.digest)
        digests[kind] = folder / stored.digest
    store = Store(tmp_path / "store")
    one = replace(one, title="A <b>", features=store.open(one.features.digest), labels=store.open(one.labels.digest))
    results = ResultStore(tmp_path / "results")
    settings = EvaluationSettings(selection=SELECTION, analyses=(VarianceSpectrum(kind="variance-spectrum", top=(4,)),))
    found = evaluate("e", [one], settings, results)
    models_info = [model_info(one, SELECTION)]
    about = [{"model": one.title, "data set": "planted"}]
    stored = states(store, models_info, found.table)
    page = write_report(results, "e", found, about, models_info=models_info, stored=stored)
    return results, store, digests, page


def look(store):
    return lambda reported: states(store, reported.models_info, reported.table)


def test_parts_of_the_data_are_told_apart_from_all_of_it(tmp_path):
    one = planted(tmp_path, n_images=12)
    one.samples["source_sha256"] = [f"{number // 2:064x}" for number in range(len(one.samples))]
    fewer = SELECTION.model_copy(update={"train": SELECTION.train.model_copy(update={"per_group": 2})})
    data, of_fewer = (model_info(one, selection).data for selection in (SELECTION, fewer))
    assert [data[f"{part}images"] for part in ("train ", "validation ")] == ["6", "6"]
    assert of_fewer["train images"] == "4"
    different = {name for name in data if data[name] != of_fewer[name]}
    assert different == {"train images", "train image files", "train facts of images"}
    one.samples.loc[one.samples["split"] == "val", "source_sha256"] = 64 * "f"
    changed = model_info(one, SELECTION).data
    assert {name for name in data if data[name] != changed[name]} == {"validation image files"}


def test_the_claims_are_on_the_page_and_beside_it_whoever_writes_it(made):
    results, store, _, page = made
    folder = page.parent
    before = [(folder / name).read_bytes() for name in ("report.html", "claims.csv", "claims.json")]
    text = page.read_text()
    assert "Holds: 0. Fails: 0. Not testable as a whole: 20, of which 0 are decided in part." in text
    assert text.count("– not testable") == 20
    assert "role = &quot;mae&quot;" in text
    assert "<details><summary>Claims that cannot be tested (20)" in text, "nothing was decided, so the table is folded"
    for name in ("report.html", "claims.csv", "claims.json"):
        (folder / name).unlink()
    rewrite_report(results, "e", look(store))
    assert [(folder / name).read_bytes() for name in ("report.html", "claims.csv", "claims.json")] == before
    rows = list(csv.DictReader((folder / "claims.csv").read_text().splitlines()))
    assert [int(row["claim"]) for row in rows] == list(range(1, 21))
    decided = json.loads((folder / "claims.json").read_text())
    assert [row["verdict"] for row in rows] == [one["verdict"] for one in decided]


def test_verdicts_are_words_and_models_are_escaped(tmp_path):
    world = paper_world()
    world.change("mae", "tracking", "instance_accuracy", 0.3, m=200)
    found = [replace(one, models=("<i>MAE",)) for one in decide_all(world.evidence())]
    text = claims_section(found, {"<i>MAE": "features gone from the store"})
    assert "<details open>" in text
    assert "✓ holds" in text
    assert "✗ fails" in text
    assert "– not testable" in text
    assert "<i>" not in text
    assert "The stored set of &lt;i&gt;MAE is not whole." in text
    assert "Holds: 18. Fails: 1. Not testable as a whole: 1, of which 0 are decided in part." in text
    assert text.index("Decided (19)") < text.index("1 claim cannot be tested")


def test_the_number_of_a_paper_links_to_it():
    section = claims_section(decide_all(paper_world().evidence()), {})
    assert '<a href="https://arxiv.org/abs/2401.00463">arXiv 2401.00463</a>' in section


def test_what_is_decided_in_part_stands_between_what_is_decided_and_what_is_not():
    world = paper_world()
    for role in ("mae", "simmim", "dino", "supervised", "ibot", "scale-mae"):
        world.without(role)
    text = claims_section(decide_all(world.evidence()), {})
    assert "in part ✓ holds" in text
    parts, others = text.index("Decided in part ("), text.index("Claims that cannot be tested (")
    assert parts < others
    assert "Decided (" not in text, "no claim is decided as a whole"


def test_a_page_of_an_earlier_version_is_written_with_all_claims_open(made):
    results, _, _, page = made
    note = json.loads((page.parent / "report.json").read_text())
    del note["models"], note["beside"]
    (page.parent / "report.json").write_text(json.dumps(note))
    rewrite_report(results, "e")
    assert "Not testable as a whole: 20" in page.read_text()


# -- the stored sets --------------------------------------------------------------------------------------------------


def state(made):
    results, store, _, page = made
    rewrite_report(results, "e", look(store))
    return page.read_text()


def test_whole_sets_are_said_to_be_whole_and_a_missing_store_not_checked(made, tmp_path):
    results, _, _, page = made
    assert ">whole</dd>" in page.read_text()
    rewrite_report(results, "e", look(Store(tmp_path / "elsewhere")))
    assert ">not checked</" in page.read_text()
    rewrite_report(results, "e")
    assert ">not checked</" in page.read_text()


def test_a_set_that_is_gone_marks_every_number_of_its_model(made):
    shutil.rmtree(made[2]["features"])
    text = state(made)
    assert "<strong>features gone from the store</strong>" in text
    # At a glance, and a line for every number that the page lists.
    assert text.count("<td>A &lt;b&gt; (features gone from the store)</td>") >= 3


def test_a_chunk_cut_short_and_a_lost_record_are_named(made):
    chunk = next(path for path in made[2]["features"].rglob("c.*") if path.is_file())
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1])
    assert "features damaged (verify says: tokens/block.0.norm/" in state(made)
    chunk.write_bytes(data)
    (made[2]["labels"] / "samples.parquet").unlink()
    assert "labels damaged (verify says: samples.parquet is gone)" in state(made)


def test_a_set_made_again_with_other_values_is_told_from_the_one_measured(made):
    results, store, _, _ = made
    reported = read_stored_results(results, "e")
    array = "tokens/block.0.norm"
    inputs = [{**json.loads(one), array: "0" * 64} for one in reported.table["inputs"]]
    found = states(store, reported.models_info, reported.table.assign(inputs=list(map(json.dumps, inputs))))
    assert found == {"A <b>": f"features other than what was measured ({array} was made again with other values)"}
