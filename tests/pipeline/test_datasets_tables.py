"""What every reader promises, whatever it reads."""

import hashlib

import pytest

from pipeline.datasets import ade20k, bdd100k_mot, dota, fair1m, mot17, nwpu_vhr10, resisc45, ucmerced

GOLDEN = {
    dota.Dota: (dota.CLASSES, "9d5d8f3f7c6f1db9"),
    nwpu_vhr10.NwpuVhr10: (nwpu_vhr10.CLASSES, "b3659e6d93df6ad8"),
    fair1m.Fair1m: (fair1m.CLASSES, "30d593672598c51f"),
    mot17.Mot17: (mot17.CLASSES, "fa32a7931a7cec93"),
    bdd100k_mot.Bdd100kMot: (bdd100k_mot.CLASSES, "65358c8ca71785d0"),
    ucmerced.UcMerced: (ucmerced.CLASSES, "bd44b1dd80543212"),
    resisc45.Resisc45: (resisc45.CLASSES, "1da63b760e348e96"),
}


@pytest.mark.parametrize("reader", GOLDEN, ids=lambda reader: reader.name)
def test_golden_class_tables(reader):
    """When this fails, stored labels no longer match their specs: raise the reader's revision with the new digest."""
    classes, digest = GOLDEN[reader]
    assert (reader.revision, hashlib.sha256(repr(classes).encode()).hexdigest()[:16]) == (1, digest)


@pytest.mark.parametrize("reader", GOLDEN, ids=lambda reader: reader.name)
def test_class_ids_are_positions_and_names_differ(reader, tmp_path):
    classes = reader(tmp_path).classes()
    assert [entry.id for entry in classes] == list(range(len(classes)))
    assert len({entry.name for entry in classes}) == len({entry.colour for entry in classes}) == len(classes)


def test_golden_ids_of_ade20k():
    assert ade20k.Ade20k.revision == 1
    assert ade20k._LOOKUP.tolist() == [255, *range(150), *[-1] * 105]
