"""Every shape that a signature states is checked while the tests run; and the command line as a user meets it."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

ROOT = Path(__file__).parent.parent

# Before torch is imported: commands that tests start compute with one thread, and compute records name the threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _modules_with_shapes() -> list[str]:
    """Return the modules that annotate arrays; in the others the static checker has seen all there is to see."""
    paths = (path for package in ("stores", "pipeline", "evaluate", "demo") for path in (ROOT / package).rglob("*.py"))
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in paths
        if path.name != "__init__.py" and "from jaxtyping import" in path.read_text()
    )


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Shells start what runs in the background deaf to Ctrl-C, and the commands that are tried here would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

install_import_hook(_modules_with_shapes(), "beartype.beartype")

# How long an example takes says how busy the machine is: what hangs is for pytest-timeout to find.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


def pytest_runtest_setup(item):
    """Tests that need a GPU skip and say so where there is none, in whatever file they are."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("PyTorch finds no NVIDIA GPU")


SYNCED = ("stores", "test_kills", "test_two_faults", "test_bad_days")
"""Folders and modules of tests about what survives a crash: there nothing is taken out."""


@pytest.fixture(scope="module", autouse=True)
def no_sync(request):
    """Nothing in this process waits for the disk, except where tests are about that: nobody pulls the plug here."""
    parts = request.node.nodeid.removesuffix(".py").split("/")
    if not any(part in SYNCED for part in parts):
        patched = request.getfixturevalue("_module_patch")
        patched.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def _module_patch():
    with pytest.MonkeyPatch.context() as patched:
        yield patched


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to type commands in, with nothing said by the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("PATCHBANK_STORE", "PATCHBANK_DATA", "PATCHBANK_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def site(here):
    """The same with a miniature of CamVid in ``data`` and an experiment ``tiny.toml`` on it."""
    from tests.pipeline.tiny import write_camvid
    from tests.tiny_experiment import EXPERIMENT

    write_camvid(here / "data" / "camvid")
    (here / "tiny.toml").write_text(EXPERIMENT)
    return here


@pytest.fixture
def svg_alone(monkeypatch):
    """No figure is drawn as PDF, which takes the most of a page; the daily line draws some, a slow test all of them."""
    write_svg_alone(monkeypatch)


def write_svg_alone(monkeypatch):
    """Write a stand-in for every PDF of a report."""
    from evaluate.figures.style import save

    monkeypatch.setattr("evaluate.report.writing.save", lambda one, kind: save(one, kind) if kind == "svg" else b"%PDF")


@pytest.fixture
def undrawn(monkeypatch):
    """No figure is drawn: for tests that ask what is computed."""
    monkeypatch.setattr("evaluate.report.writing.FIGURES", ())


WITH_PDF = ("test_the_daily_line",)
"""Tests in which commands draw PDFs too."""


@pytest.fixture
def run(request, monkeypatch, capsys):
    """Type a command: returns exit code, stdout and stderr. Its pages have stand-ins for PDFs (`svg_alone`)."""
    import cli

    if request.node.name not in WITH_PDF:
        request.getfixturevalue("svg_alone")
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # `plan` sets it for its process, which is not over after a test
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["patchbank", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return call


@pytest.fixture(scope="session")
def object_server():
    """An object store with the API of S3, a process on the loopback; `tests.object_store` says what it can be told."""
    from tests.object_store import running

    if running.missing():
        pytest.skip(f"no object store to try: {', '.join(running.missing())} not installed (extras s3 and dev)")
    with running.object_server() as server:
        yield server


@pytest.fixture
def bucket(object_server):
    """The URL of an empty bucket on it."""
    return object_server.bucket()
