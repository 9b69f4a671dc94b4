"""Write docs/modules.md from the first line of every module's docstring: ``python docs/generate_modules.py``."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("commands", "stores", "pipeline", "evaluate", "demo", "benchmarks")


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
    return lines[0].rstrip(".") if lines else ""


def page() -> str:
    """Return the page: one table a folder, one row a module."""
    lines = [
        "# Modules",
        "",
        "Every module with the first line of its docstring. This page is made from the code by",
        "`python docs/generate_modules.py`; [walks.md](walks.md) follows one image and one analysis through them.",
    ]
    for package in PACKAGES:
        folders = sorted({path.parent for path in (ROOT / package).rglob("*.py")})
        for folder in folders:
            name = folder.relative_to(ROOT).as_posix()
            lines += ["", f"## {name}/", "", first_line(folder / "__init__.py") + ".", "", "| module | what it is |"]
            lines += ["|---|---|"]
            modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
            lines += [f"| `{path.name}` | {first_line(path)} |" for path in modules]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "modules.md").write_text(page(), encoding="utf-8")
