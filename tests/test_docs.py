"""Documentation that a test reads."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_experiment_page_is_made_from_the_code():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (ROOT / "docs" / "experiment.md").read_text() == generate.page(), "run `python docs/generate.py`"


def test_every_key_of_an_experiment_has_a_meaning():
    lines = (ROOT / "docs" / "experiment.md").read_text().splitlines()
    without = [line for line in lines if line.startswith("| `") and line.rstrip("| ").count("|") < 4]
    assert without == []


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda path: path.name)
def test_experiments_are_documents_that_load(path):
    from cli import load_experiment

    head = path.read_text().split("\n\n")[0]
    assert head.startswith("# "), "the head comment says what it reproduces"
    assert "minutes" in head or "hour" in head, "and how long it takes"
    recipe, questions = load_experiment(path)
    assert recipe.models
    assert questions.analyses


def test_toml_in_the_readme_loads(tmp_path):
    from cli import load_experiment

    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        tomllib.loads(block)
        (tmp_path / "readme.toml").write_text(block)
        load_experiment(tmp_path / "readme.toml")


def test_files_named_in_the_readme_exist():
    tree = (ROOT / "README.md").read_text().split("## What is where")[1].split("```")[1]
    folder = ROOT
    for line in tree.splitlines():
        if line and not line.startswith(" "):
            name = line.split()[0]
            assert (ROOT / name).exists(), name
            folder = ROOT / name if name.endswith("/") else ROOT
        else:
            for name in re.findall(r"(?:^| {2}|, )([a-z_]+(?:\.py|/))", line):
                assert (folder / name).exists(), f"{folder.name}/{name}"
