"""docs/storage.md names the test that holds each promise; the tests must exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "storage.md").read_text()


def test_every_named_test_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 10
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text())
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assigned = (target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets)
        there |= {target.id for target in assigned if isinstance(target, ast.Name)}
        assert name in there, f"{file} has no {name}"
        marks = [mark for node in tree.body if getattr(node, "name", "") == name for mark in node.decorator_list]
        assert not any("'slow'" in ast.dump(mark) for mark in marks), f"{name} is not run by `make test`"


def test_every_promise_names_a_test():
    part = PAGE.split("## What is promised")[1].split("\n## ")[0]
    table = [line for line in part.splitlines() if line.startswith("| ")][1:]
    assert len(table) > 10
    for line in table:
        assert "`tests/" in line.split("|")[5], line
