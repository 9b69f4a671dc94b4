"""The shape of the house, as a test: arrows run one way, names are ours, and `--help` imports nothing heavy."""

import ast
import graphlib
import importlib.metadata
import re
import subprocess
import sys
import tokenize
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from evaluate.kernels.moments import without_top

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "stores": set(),
    "pipeline": {"stores"},
    "evaluate": {"stores"},
    "demo": {"stores", "pipeline"},
    "commands": {"stores", "pipeline", "evaluate", "demo"},
    "cli": {"stores", "commands"},
    "patchbank": {"stores", "pipeline", "evaluate"},
}
"""What each top-level package or module may import of ours; nothing may import `patchbank`, the door for scripts."""

MOST_TOP_ENTRIES, MOST_ENTRIES, MOST_LINES = 16, 12, 299
ONE_FILE_A_THING = {
    "commands",
    "demo/street",
    "evaluate/analyses",
    "evaluate/figures",
    "pipeline/datasets",
    "pipeline/models",
    "pipeline/views",
}
"""Folders that grow with what they list, one file a thing; all others stay small enough to be read as a list."""

KNOWN_FOLDER_CIRCLES: dict[str, set[str]] = {}
"""Entries of a folder that import each other although no two modules do; to become fewer, never more."""

LEAST_DOCUMENTED = 0.7
"""Share of the parameters of public functions with four or more that an ``Args:`` section describes."""


def modules(package):
    path = ROOT / package
    return sorted(path.rglob("*.py")) if path.is_dir() else [ROOT / f"{package}.py"]


@cache
def tree(path):
    return ast.parse(path.read_text())


def imported_names(path):
    """Yield every name that a module imports, inside functions and for type checkers too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where the arrow points"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(path):
    return (name.partition(".")[0] for name in imported_names(path))


@cache
def import_graph():
    """Our modules by dotted name, each with the modules of ours that it names in an import."""
    paths = {}
    for package in MAY_IMPORT:
        for path in modules(package):
            parts = path.relative_to(ROOT).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path

    def module_of(name):
        return name if name in paths else name.rpartition(".")[0]

    return {name: ({*map(module_of, imported_names(path))} & paths.keys()) - {name} for name, path in paths.items()}


def circle_in(graph):
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return " -> ".join(error.args[1])
    return None


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_run_one_way(package):
    ours = set(MAY_IMPORT) | {"tests", "benchmarks"}
    for path in modules(package):
        wrong = (set(imported(path)) & ours) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_no_modules_import_each_other_in_a_circle():
    circle = circle_in(import_graph())
    assert circle is None


def test_no_entries_of_a_folder_import_each_other_in_a_circle():
    graph = import_graph()
    folders = {name.rpartition(".")[0] for name in graph} - {""}
    for folder in sorted(folders):

        def entry(module, inside=f"{folder}."):
            return module.removeprefix(inside).partition(".")[0] if module.startswith(inside) else None

        known = KNOWN_FOLDER_CIRCLES.get(folder, set())
        entries = {}
        for module, targets in graph.items():
            if (source := entry(module)) is not None:
                others = {entry(target) for target in targets} - {None, source}
                entries.setdefault(source, set()).update(others - known if source in known else others)
        circle = circle_in(entries)
        assert circle is None, folder


@pytest.mark.parametrize("package", sorted(name for name in MAY_IMPORT if (ROOT / name).is_dir()))
def test_folders_are_short_lists(package):
    for folder in sorted({path.parent for path in modules(package)}):
        name = folder.relative_to(ROOT).as_posix()
        if name in ONE_FILE_A_THING:
            continue
        files = [path.stem for path in folder.glob("*.py") if path.name != "__init__.py"]
        entries = sorted(files + [path.parent.name for path in folder.glob("*/__init__.py")])
        most = MOST_TOP_ENTRIES if name == package else MOST_ENTRIES
        assert len(entries) <= most, f"{name}/ has {len(entries)} entries, more than {most}: {', '.join(entries)}"


def test_modules_are_short():
    paths = [path for package in [*MAY_IMPORT, "benchmarks"] for path in modules(package)]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def public_functions(path):
    """Yield the functions of a module and the methods of its classes whose names have no leading underscore."""
    for node in tree(path).body:
        inside = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        yield from (one for one in inside if isinstance(one, ast.FunctionDef) and not one.name.startswith("_"))


def documented(docstring):
    """Return the parameters that an ``Args:`` section describes."""
    section = re.search(r"^Args:\n((?:    .*\n|\n)*)", f"{docstring}\n", re.MULTILINE)
    lines = re.findall(r"^    ([\w*, `]+?)(?: \([^)]*\))?:", section[1], re.MULTILINE) if section else []
    return {name.strip(" *`") for line in lines for name in line.split(",")}


def test_parameters_are_described():
    """Commands are left out: what `--help` prints of their flags is held by tests/test_docs.py."""
    import cli

    total, described, missing = 0, 0, {}
    for package in ("stores", "pipeline", "evaluate", "commands", "demo"):
        for path in modules(package):
            for function in public_functions(path):
                arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
                names = {argument.arg for argument in arguments} - {"self", "cls"}
                is_command = any(command.__code__.co_name == function.name for command in cli.COMMANDS.values())
                if len(names) < 4 or (package == "commands" and is_command):
                    continue
                undescribed = names - documented(ast.get_docstring(function) or "")
                total, described = total + len(names), described + len(names) - len(undescribed)
                module = str(path.relative_to(ROOT))
                missing[module] = missing.get(module, 0) + len(undescribed)
    worst = sorted(missing.items(), key=lambda item: -item[1])[:20]
    assert described >= LEAST_DOCUMENTED * total, f"{described} of {total} are described; missing: {worst}"


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_import_names_are_ours_alone(name):
    owners = set(importlib.metadata.packages_distributions().get(name, []))
    assert owners == {"patchbank"}, f"`import {name}` is also provided by {owners - {'patchbank'}}; uninstall it"


def test_no_module_is_named_by_what_it_is_not():
    banned = {"utils", "helpers", "common", "manager", "misc"}
    named = [path for package in MAY_IMPORT for path in modules(package) if banned & set(path.stem.split("_"))]
    assert not named


@pytest.mark.parametrize(
    "first",
    ["import cli\ntry:\n    cli.app(['--help'])\nexcept SystemExit:\n    pass", "import patchbank; dir(patchbank)"],
)
def test_the_doors_import_nothing_heavy(first):
    code = (
        f"import sys\n{first}\n"
        "heavy = {'torch', 'zarr', 'faiss', 'pandas', 'dask', 'matplotlib', 'numpy', 'sklearn', 'timm'}\n"
        "found = sorted(heavy & set(sys.modules))\n"
        "sys.exit(f'imports {found}' if found else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_library_is_there_and_has_a_docstring():
    import patchbank

    assert dir(patchbank) == sorted(patchbank.__all__)
    assert [name for name in patchbank.__all__ if not getattr(patchbank, name).__doc__] == []
    with pytest.raises(AttributeError, match="there are DamageError"):
        patchbank.nothing  # noqa: B018


def test_stores_works_without_torch():
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import stores, stores.store, stores.maintenance.verify, stores.writing.writer, stores.writing.sealing\n"
        "import stores.memory, stores.maintenance.describe\n"
        "import stores.hdf5.reader, stores.hdf5.exporting, stores.hdf5.importing, stores.hdf5.clam\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_has_help_and_stands_in_the_readme():
    import cli

    readme = (ROOT / "README.md").read_text()
    for name, command in cli.COMMANDS.items():
        assert command.__doc__, f"{name} has no help"
        assert f"`patchbank {name}" in readme, f"{name} is not in the README"


def test_dependencies_have_a_lower_bound_with_a_reason():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    project = tomllib.loads("\n".join(lines))["project"]
    for requirement in project["dependencies"]:
        line = next(line for line in lines if f'"{requirement}"' in line)
        assert ">=" in requirement, requirement
        assert "#" in line, f"{requirement} gives no reason"


NOT_IMPORTED = {
    "zarr": "other people read our sets with it, and so do the tests",
}
"""Dependencies that none of our packages imports, and what they are for."""


def distributions(folders):
    """Third-party distributions that folders import, by one of the modules that do."""
    ours = {*MAY_IMPORT, "tests", "benchmarks"}
    owners = importlib.metadata.packages_distributions()
    found = {}
    for folder in folders:
        for path in modules(folder):
            for name in set(imported(path)) - ours - sys.stdlib_module_names:
                for owner in owners.get(name, [name]):
                    found[owner.lower().replace("_", "-")] = str(path.relative_to(ROOT))
    return found


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}

    declared = names(project["dependencies"])
    extras = set().union(*(names(group) for group in project["optional-dependencies"].values()))
    used = distributions(MAY_IMPORT)
    assert {name: path for name, path in used.items() if name not in declared} == {}
    assert declared - set(used) == set(NOT_IMPORTED)
    beside = distributions(["tests", "benchmarks"])
    assert {name: path for name, path in beside.items() if name not in declared | extras} == {}


def test_the_repository_speaks_of_itself_alone():
    """No download addresses in pinned files, nothing large, nothing downloaded."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    shipped = [ROOT / name for name in tracked if name.startswith("pipeline/models/shipped/")]
    assert sum(path.stat().st_size for path in shipped if path.exists()) < 16_000_000
    for name in tracked:
        path = ROOT / name
        if not path.exists():
            continue
        assert path in shipped or path.stat().st_size < 1_000_000, f"{name} is large"
        if name.startswith("requirements/") and name.endswith(".txt"):
            assert "://" not in path.read_text(), f"{name} holds a download address"


def test_stated_shapes_are_checked_while_tests_run():
    with pytest.raises(TypeError, match="without_top"):
        without_top(np.zeros((2, 3)), 1)


GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
BANNED_PHRASES = re.compile(
    r"drawn weights|who meets whom|is asked of whom|\bvouch|\banew\b|\bborne\b|are had from where|expect of it\b",
    re.IGNORECASE,
)


def glossary_column(number):
    """Return what stands between backticks in one column of the glossary's tables, counted from 0."""
    rows = [line.strip("| ").split(" | ") for line in GLOSSARY.splitlines() if line.startswith("| ")]
    return [word for row in rows if row[0] != "word" for word in re.findall(r"`([^`]+)`", row[number])]


@cache
def _names_with_attributes():
    """Every NAME token of our packages with a place where it stands: all, and those that are no attributes."""
    found, own = {}, {}
    for package in [*MAY_IMPORT, "benchmarks"]:
        for path in modules(package):
            with path.open() as file:
                before = ""
                for token in tokenize.generate_tokens(file.readline):
                    if token.type == tokenize.NAME:
                        place = f"{path.relative_to(ROOT)}:{token.start[0]}"
                        found.setdefault(token.string, place)
                        if before != ".":
                            own.setdefault(token.string, place)
                    before = token.string
    return found, own


def names_in_code(*, attributes=False):
    """Every NAME token of our packages with a place where it stands; attributes only if asked for."""
    return _names_with_attributes()[not attributes]


def test_words_of_the_glossary_are_those_of_the_code():
    names = [name for name in glossary_column(2) if name.isidentifier()]
    assert len(names) > 40
    assert [name for name in names if name not in names_in_code(attributes=True)] == []


def test_retired_words_are_gone_from_the_code():
    retired = glossary_column(3)
    assert len(retired) > 40
    paths = [path for package in [*MAY_IMPORT, "benchmarks"] for path in modules(package)]
    functions = {
        node.name: f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef)
    }
    files = {path.name: str(path.relative_to(ROOT)) for path in paths}
    found = {}
    for word in retired:
        where = files if word.endswith(".py") else functions if word.endswith("()") else names_in_code()
        if word.removesuffix("()") in where:
            found[word] = where[word.removesuffix("()")]
    assert found == {}


def texts():
    """Yield what we say in prose: docstrings of our code, pages, and the comments of experiments."""
    for package in [*MAY_IMPORT, "benchmarks"]:
        for path in modules(package):
            # A string that stands alone is documentation: of a module, class, function, field or constant.
            alone = [node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Expr)]
            strings = [node.value for node in alone if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            yield path, "\n\n".join(strings)
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").glob("*.md")]
    made = {"glossary.md", "commands.md", "experiment.md", "modules.md"}  # names them; made from docstrings
    yield from ((path, path.read_text()) for path in pages if path.name not in made)
    for path in (ROOT / "experiments").glob("*.toml"):
        yield path, "\n".join(re.findall(r"#(.*)", path.read_text()))


def test_prose_is_plain():
    found = {
        str(path.relative_to(ROOT)): sorted(set(BANNED_PHRASES.findall(" ".join(text.split()))))
        for path, text in texts()
        if BANNED_PHRASES.search(" ".join(text.split()))
    }
    assert found == {}
