"""Documentation that a test reads."""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).parent.parent


def test_the_experiment_page_is_made_from_the_code():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (ROOT / "docs" / "experiment.md").read_text() == generate.page(), "run `python docs/generate.py`"


def test_the_page_of_commands_is_made_from_the_code():
    spec = importlib.util.spec_from_file_location("generate_commands", ROOT / "docs" / "generate_commands.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    made = generate.page()
    assert (ROOT / "docs" / "commands.md").read_text() == made, "run `python docs/generate_commands.py`"
    rows = [line.split(" | ") for line in made.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows if row[-1].strip(" |") == ""] == [], "every flag has a meaning"


def test_the_table_of_metrics_is_made_from_the_code():
    spec = importlib.util.spec_from_file_location("generate_metrics", ROOT / "docs" / "generate_metrics.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (ROOT / "evaluate" / "README.md").read_text() == generate.page(), "run `python docs/generate_metrics.py`"


def console_commands():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
            for line in re.split(r"\n|&&", block):
                words = shlex.split(line, comments=True)
                if words:
                    yield pytest.param(words, id=f"{page.name}: {' '.join(words)}")


def commands_in_sentences():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md"), *(ROOT / "docs").glob("*.md")]
    for page in (*sorted(pages), *sorted((ROOT / "experiments").glob("*.toml"))):
        whole = page.read_text()
        text = re.sub(r"\n#? ?", " ", re.sub(r"```.*?```", "", whole, flags=re.DOTALL))
        for line in re.findall(r"`(patchbank [^`]*)`", text) + re.findall(
            r"^# {2,}(patchbank .*)", whole, re.MULTILINE
        ):
            # A bare name only mentions the command; brackets and COMMAND stand for something else.
            if len(line.split()) > 2 and "[" not in line and "COMMAND" not in line:
                yield pytest.param(shlex.split(line), id=f"{page.name}: {line}")


@pytest.mark.parametrize("words", [*console_commands(), *commands_in_sentences()])
def test_commands_shown_on_pages_exist(words):
    import cli

    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[0] == "patchbank" and not words[1].startswith("-"):
        command = typer.main.get_command(cli.app).commands[words[1]]
        command.make_context(words[1], words[2:])  # raises for flags and counts of arguments that are not known
    else:
        assert words[0] in ("export", "patchbank")


def test_every_command_prints_json():
    import cli

    group = typer.main.get_command(cli.app)
    assert list(group.commands) == list(cli.COMMANDS)
    without = [name for name, one in group.commands.items() if "--json" not in [o for p in one.params for o in p.opts]]
    assert without == []


def test_every_command_stands_in_the_readme():
    import cli

    table = (ROOT / "README.md").read_text().split("## Commands")[1].split("##")[0]
    assert sorted(re.findall(r"`patchbank ([a-z]+)`", table)) == sorted(cli.COMMANDS)


def test_every_key_of_an_experiment_has_a_meaning():
    lines = (ROOT / "docs" / "experiment.md").read_text().splitlines()
    without = [line for line in lines if line.startswith("| `") and line.rstrip("| ").count("|") < 4]
    assert without == []


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda path: path.name)
def test_experiments_are_documents_that_load(path):
    from commands.experiment.reading import load_experiment
    from pipeline.datasets import DATASETS

    head = path.read_text().split("\n\n")[0]
    assert head.startswith("# "), "the head comment says what it reproduces"
    assert re.search(r"^# How long: .*\b(s|seconds?|minutes?|hours?)\b", head, re.MULTILINE), "and how long it takes"
    recipe, questions = load_experiment(path)
    assert recipe.models
    assert questions.analyses
    assert list(recipe.all_views()), "the frame allows every view"
    assert questions.rules() or questions.selection is None
    assert recipe.dataset.name in DATASETS


def test_toml_in_the_readme_loads(tmp_path):
    from commands.experiment.reading import load_experiment

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


def test_every_module_stands_in_the_list_of_modules():
    spec = importlib.util.spec_from_file_location("generate_modules", ROOT / "docs" / "generate_modules.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    made = generate.page()
    assert (ROOT / "docs" / "modules.md").read_text() == made, "run `python docs/generate_modules.py`"
    rows = [line.split(" | ") for line in made.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows if row[-1].strip(" |") == ""] == [], "every module says what it is"


def test_links_and_files_named_on_pages_exist():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").glob("*.md")]
    missing = []
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        targets = [(page.parent, target) for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
        if page.name in ("README.md", "CONTRIBUTING.md", "walks.md", "concepts.md", "claims.md"):
            folders = "cli|patchbank|commands|stores|pipeline|evaluate|demo|docs|experiments|benchmarks|tests"
            targets += [(ROOT, name) for name in re.findall(rf"`((?:{folders})[\w/-]*(?:\.(?:py|md|toml)|/))`", text)]
        missing += [f"{page.name}: {name}" for folder, name in targets if not (folder / name).exists()]
    assert missing == []


def test_walks_name_functions_that_exist():
    for walk in (ROOT / "docs" / "walks.md").read_text().split("\n## ")[1:]:
        steps = re.findall(r"^\d+\. `([\w/]+\.py)`, (.*?)(?=^\d+\. |\Z|^\n)", walk, re.DOTALL | re.MULTILINE)
        assert 8 <= len(steps) <= 12, "a walk opens at most twelve modules"
        for path, text in steps:
            tree = ast.parse((ROOT / path).read_text())
            named = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
            step, _, _ = text.partition(":")
            for name in re.findall(r"`([\w.]+)`", step):
                assert set(name.split(".")) <= named, f"{path} has no {name}"
