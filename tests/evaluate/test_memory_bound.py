"""What every analysis states to hold is what it takes, and what is too much is refused before anything is read."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from evaluate.questions import ANALYSES
from stores.errors import UserError
from stores.faults import gigabytes
from tests.evaluate.sized import QUESTIONS, STREAMS, answer, asked, opened, write

ROOT = Path(__file__).parents[2]
HELD = QUESTIONS.keys() - STREAMS
COPIES = {"patch-classification", "feature-treatments"}
"""What copies the patches it holds, and takes too much first when a copy is too many."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sized")
    return opened(folder, *write(folder, 40, channels=32))


def measured(folder, digests, names):
    """Return (stated, peak) in bytes by question, from a process that does nothing else."""
    command = [sys.executable, "-m", "tests.evaluate.sized", str(folder), *digests, *sorted(names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_analysis_is_measured_here():
    kinds = {get_args(settings.model_fields["kind"].annotation)[0] for settings in ANALYSES}
    assert {name.partition(" by ")[0] for name in QUESTIONS} == kinds
    assert QUESTIONS.keys() >= STREAMS


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_holds_more_than_it_may_is_refused_with_both_numbers(name, models, tmp_path):
    stated = max(cell.holds() for cell in asked(name, models)[3])
    with pytest.raises(UserError) as refused:
        answer(name, models, tmp_path, stated - 1)
    sentence = str(refused.value)
    kind = name.partition(" by ")[0]
    assert f"{kind} holds {gigabytes(stated)} of memory and may use {gigabytes(stated - 1)} (camvid, one:" in sentence
    assert float(re.search(r"--memory ([0-9.]+),", sentence)[1]) * 1e9 >= stated
    assert not list(tmp_path.rglob("answer.json"))


def test_what_is_answered_needs_no_memory(models, tmp_path):
    name = "variance-spectrum"
    assert answer(name, models, tmp_path, 1 << 30).n_computed == 1
    assert answer(name, models, tmp_path, 1).n_reused == 1


def test_streaming_analyses_take_less_than_the_set_and_than_they_state(tmp_path):
    tokens = 700 * 196 * 384 * 2
    for name, (stated, peak) in measured(tmp_path, write(tmp_path, 700), STREAMS).items():
        assert peak < stated < tokens, name


@pytest.mark.parametrize(("n_sources", "names"), [(300, COPIES), (100, HELD - COPIES)])
def test_other_analyses_take_less_than_they_state(tmp_path, n_sources, names):
    for name, (stated, peak) in measured(tmp_path, write(tmp_path, n_sources), names).items():
        assert peak < stated, name


@pytest.mark.slow
def test_what_is_stated_is_no_more_than_half_again_of_what_is_taken(tmp_path):
    for name, (stated, peak) in measured(tmp_path, write(tmp_path, 1000, channels=768), HELD).items():
        assert peak < stated < 1.5 * peak, name
