"""What reaches a terminal, whatever names and stores hold, and what happens when nothing can be printed."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import cli
from commands.terminal.output import echo, echo_json, print_table, say, visible
from stores.errors import UserError
from stores.storage.together import SideBySide
from tests.stores.sealed_sets import stored, tokens
from tests.stores.specs_for_tests import FEATURES

ROOT = Path(__file__).parent.parent
EVIL = "evil\x1b[31mRED\x1b]0;pwned\x07\x9b2J\x7f\u202etxt.\u2066\r\nfake  line"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\udc80-\udcff]")
"""What a terminal may obey; a line break ends a line that we print."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 日本 and 🙂", "plain, é, 日本 and 🙂"),
        ("a\N{NO-BREAK SPACE}b\N{IDEOGRAPHIC SPACE}c", "a\N{NO-BREAK SPACE}b\N{IDEOGRAPHIC SPACE}c"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\x07\x7f\x9b", r"a\nb\r\x07\x7f\x9b"),
        ("\u202eabc\u2069\u2028", r"\u202eabc\u2069\u2028"),
        ("st\udce9", r"st\udce9"),
    ],
)
def test_control_characters_are_shown_as_escapes(text, shown):
    assert visible(text) == shown


def test_every_way_of_printing_shows_them(capsys):
    echo(EVIL)
    say(EVIL)
    echo_json({EVIL: EVIL})
    print_table([["set", "model"], ["a", EVIL], ["b", "x"]])
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert not CONTROL.search(text)
    assert printed.err.count("\n") == 1


def test_commands_print_in_one_place_only():
    for path in (ROOT / "commands").rglob("*.py"):
        if path.name != "output.py":
            assert not re.search(r"typer\.(echo|secho)|^\s+print\(|sys\.std(out|err)\.write", path.read_text(), re.M), (
                path
            )


def test_names_in_a_store_of_somebody_else(here, run):
    spec = FEATURES.model_copy(
        update={
            "model": FEATURES.model.model_copy(update={"name": EVIL}),
            "dataset": FEATURES.dataset.model_copy(update={"name": EVIL}),
        }
    )
    made = stored(here / "store", [tokens(0)], spec=spec, provenance={"command": EVIL, EVIL: EVIL})
    (here / "store" / made.prefix / "tokens" / "block.0" / "\x1b[31mx\u202e").write_bytes(b"")
    for words in (
        ("ls",),
        ("ls", "--json"),
        ("show", made.digest),
        ("show", made.digest, "--json"),
        ("verify",),
        ("repair",),
        ("gc",),
        ("export", made.digest, "a\x1b[31m.h5"),
        ("show", EVIL),
        ("extract", f"{EVIL}.toml"),
    ):
        _, out, err = run(*words)
        assert out + err
        assert not CONTROL.search(out + err), words
        assert not re.search(r"^fake", out + err, re.M), words


def test_arguments_that_are_not_utf8(here, run):
    code, out, err = run("ls", "--store", "st\udce9🙂")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert r"st\udce9🙂 is not UTF-8" in err


def typed(words, here, **streams):
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *words],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    )


@pytest.mark.parametrize(
    "words",
    [
        ("datasets",),
        *(pytest.param(words, marks=pytest.mark.slow) for words in (("models",), ("models", "--json"))),  # load timm
        ("--help",),
        ("--version",),
    ],
)
def test_output_that_cannot_be_written(here, words):
    with Path("/dev/full").open("wb") as full:
        done = typed(words, here, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: cannot write the output: No space left on device")
    assert done.stderr.count(b"\n") == 1


def test_notes_that_cannot_be_written_stop_nothing(here):
    with Path("/dev/full").open("wb") as full:
        assert typed(("ls",), here, stderr=full).returncode == 0
        assert typed(("show", "ab"), here, stderr=full).returncode == 2


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_standard_streams_that_are_closed(here, closed):
    """The next file that is opened must not get the number of a closed stream, or notes are written into it."""
    code = (
        f"import os; [os.close(number) for number in {closed}]\n"
        f"os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {PRINTS!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path("opened").read_text() == "7"


PRINTS = """
import sys, cli, commands.app
def run():
    from commands.terminal.output import echo, progress, say
    with open("opened", "w") as file, progress():
        say("a note")
        echo("a result")
        file.write("7")
commands.app.app = lambda prog_name: run()
cli.main()
"""


EARLY = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = ["patchbank", "models"]
from cli import main
main()
"""


@pytest.mark.parametrize("module", ["commands.app", "typer", "stores.errors", "commands.models"])
def test_ctrl_c_before_the_command_runs(here, module):
    done = subprocess.run(
        [sys.executable, "-c", EARLY.format(module=module)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "stopped; committed data is kept, run the same command to continue"


def test_ctrl_c_waits_for_no_threads_that_wait_for_requests(monkeypatch):
    """A store in an object store keeps some, which end with the process."""
    together = SideBySide(2)
    assert list(together([lambda: 1, lambda: 2])) == [1, 2]

    def stopped():
        raise cli.Stopped

    monkeypatch.setattr(cli, "_run", stopped)
    with pytest.raises(SystemExit):
        cli.main()
    assert any(thread.name.startswith("requests-of-patchbank") for thread in threading.enumerate())


@pytest.mark.parametrize("raised", [cli.Stopped(), RuntimeError("Error calling __set_name__")])
def test_ctrl_c_while_a_class_body_is_run(monkeypatch, capsys, raised):
    """Python wraps what is raised there in an error of its own."""
    if isinstance(raised, RuntimeError):
        raised.__cause__ = cli.Stopped()

    def stopped():
        raise raised

    monkeypatch.setattr(cli, "_run", stopped)
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 130
    assert capsys.readouterr().err.startswith("stopped")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    "shortage",
    [
        MemoryError(),
        ImportError("x.so: failed to map segment from shared object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("can't start new thread"),
    ],
)
def test_shortage_of_memory_is_one_sentence(monkeypatch, run, shortage):
    def full(*arguments, **options):
        raise shortage

    monkeypatch.setattr("commands.app.app", full)
    code, out, err = run("ls")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "memory ran out" in err


def test_an_output_error_is_a_user_error(monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("commands.terminal.output.typer.echo", full)
    monkeypatch.setattr("commands.terminal.output.give_up_output", lambda number=1: None)
    with pytest.raises(UserError, match="cannot write the output"):
        echo("x")
    say("x")
