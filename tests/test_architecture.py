"""The shape of the house, as a test: arrows run one way, names are ours, and `--help` imports nothing heavy."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
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
}


def modules(package):
    path = ROOT / package
    return sorted(path.rglob("*.py")) if path.is_dir() else [ROOT / f"{package}.py"]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where the arrow points"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_run_one_way(package):
    ours = set(MAY_IMPORT) | {"tests", "benchmarks"}
    for path in modules(package):
        wrong = (set(imported(path)) & ours) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_import_names_are_ours_alone(name):
    owners = set(importlib.metadata.packages_distributions().get(name, []))
    assert owners == {"patchbank"}, f"`import {name}` is also provided by {owners - {'patchbank'}}; uninstall it"


def test_no_module_is_named_by_what_it_is_not():
    banned = {"utils", "helpers", "common", "manager", "misc"}
    named = [path for package in MAY_IMPORT for path in modules(package) if banned & set(path.stem.split("_"))]
    assert not named


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "import cli\n"
        "try:\n    cli.app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'zarr', 'faiss', 'pandas', 'dask', 'matplotlib', 'numpy', 'sklearn', 'timm'}\n"
        "found = sorted(heavy & set(sys.modules))\n"
        "sys.exit(f'imports {found}' if found else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
    "distributed": "dask's scheduler over several processes, for those who compute on `as_dask()`",
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
    for name in tracked:
        path = ROOT / name
        if not path.exists():
            continue
        assert path.stat().st_size < 1_000_000, f"{name} is large"
        if name.startswith("requirements/") and name.endswith(".txt"):
            assert "://" not in path.read_text(), f"{name} holds a download address"


def test_stated_shapes_are_checked_while_tests_run():
    with pytest.raises(TypeError, match="without_top"):
        without_top(np.zeros((2, 3)), 1)
