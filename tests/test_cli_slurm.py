"""Shares of Slurm's tasks without flags, and the scripts of `patchbank slurm`, with an `sbatch` that runs them here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands.experiment.slurm_share import WorkShare, find_share, unused_variables
from pipeline.extraction.options import ExtractOptions
from stores import Store
from stores.errors import UserError
from stores.storage.local import LocalObjects

ARRAY = {
    "SLURM_ARRAY_JOB_ID": "71",
    "SLURM_ARRAY_TASK_ID": "5",
    "SLURM_ARRAY_TASK_COUNT": "8",
    "SLURM_ARRAY_TASK_MIN": "0",
    "SLURM_ARRAY_TASK_MAX": "7",
    "SLURM_ARRAY_TASK_STEP": "1",
    "SLURM_JOB_ID": "76",
    "SLURM_PROCID": "0",
    "SLURM_NTASKS": "1",
}
STEP = {
    "SLURM_JOB_ID": "9",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, WorkShare()),
        (ARRAY, WorkShare(5, 8, "71")),
        (ARRAY | {f"SLURM_ARRAY_TASK_{name}": value for name, value in (("ID", "14"), ("MIN", "2"), ("MAX", "23"),
         ("STEP", "3"))}, WorkShare(4, 8, "71")),
        (STEP, WorkShare(3, 4, "9-2", 1)),
        (ARRAY | STEP | {"SLURM_JOB_ID": "76"}, WorkShare(23, 32, "71", 1)),
        # A batch script of several tasks is one process, which has all of the work.
        ({"SLURM_JOB_ID": "9", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, WorkShare()),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, WorkShare()),
        ({"SLURM_ARRAY_TASK_ID": "1"}, WorkShare()),
    ],
)  # fmt: skip
def test_shares_are_found_without_flags(environment, share):
    assert find_share(None, environment) == share
    assert find_share("1/3", environment) == WorkShare(1, 3)


@pytest.mark.parametrize(
    ("environment", "listed"),
    [
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_ID=1"),
        ({"SLURM_ARRAY_TASK_ID": "x"}, "SLURM_ARRAY_TASK_ID=x"),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "2"}, "SLURM_PROCID=5, SLURM_NTASKS=2"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "zero"}, "SLURM_PROCID=0, SLURM_NTASKS=zero"),
    ],
)
def test_variables_that_name_no_share_are_told_in_a_line(environment, listed):
    assert find_share(None, environment) == WorkShare()
    assert unused_variables(None, environment).startswith(f"note: {listed} cannot be used to find a share")
    assert unused_variables("0/2", environment) is None


@pytest.mark.parametrize("environment", [{}, ARRAY, STEP, ARRAY | STEP, {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}])
def test_variables_that_are_used_and_those_of_a_batch_script_are_no_news(environment):
    assert unused_variables(None, environment) is None


@pytest.mark.parametrize("task", [{"ID": "6", "MAX": "6", "COUNT": "2"}, {"ID": "1", "STEP": "2", "COUNT": "4"}])
def test_an_array_with_gaps_is_refused(task):
    environment = ARRAY | {f"SLURM_ARRAY_TASK_{name}": value for name, value in task.items()}
    with pytest.raises(UserError, match="submit it as --array=0-N"):
        find_share(None, environment)


def test_tasks_that_look_at_different_times_share_out_what_the_first_found_missing(tmp_path):
    objects, shares = LocalObjects(tmp_path), []
    for index, missing in enumerate([[1, 4, 5, 8, 9], [4, 5, 9], [9]]):
        options = ExtractOptions(shard=(index, 3), batch_job="71").of_missing(objects, ["set", "array"], missing)
        shares.append({number for number in range(10) if options.makes(number)})
    assert shares == [{1, 8}, {4, 9}, {5}]
    other = ExtractOptions(shard=(0, 3), batch_job="72").of_missing(objects, ["set", "array"], [9])
    assert [number for number in range(10) if other.makes(number)] == [9]
    (tmp_path / "logs").joinpath(next(path.name for path in (tmp_path / "logs").iterdir())).write_text("torn")


def test_a_torn_list_shares_out_all_ranges(tmp_path):
    objects = LocalObjects(tmp_path)
    options = ExtractOptions(shard=(1, 2), batch_job="71")
    options.of_missing(objects, ["set"], [1, 2, 3])
    (path,) = (tmp_path / "logs").iterdir()
    path.write_text("torn")
    found = options.of_missing(objects, ["set"], [1, 2, 3])
    assert [number for number in range(6) if found.makes(number)] == [1, 3, 5]


def test_an_array_extracts_what_is_missing_and_the_last_task_seals(site, run, monkeypatch):
    extract = ("extract", "tiny.toml", "--device", "cpu", "--batch-size", "4")
    assert run(*extract, "--store", "alone")[0] == 0
    assert run(*extract, "--shard", "0/2")[0] == 0
    made = []
    for task in ("0", "1"):
        of_two = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MAX": "1"}
        for name, value in {**ARRAY, **of_two}.items():
            monkeypatch.setenv(name, value)
        code, out, _ = run(*extract)
        assert code == 0
        made.append(int(re.search(r"made +(\d+) rows", out)[1]))
    assert made == [8, 4]  # shared out by number, the first task would make nothing
    sets = [{one.digest: one.stored_digest() for one in Store(site / name).sets()} for name in ("store", "alone")]
    assert sets[0] == sets[1]


OPTIONS = ("--gpus", "2", "--partition", "a100", "--sbatch=--constraint=big", "--time", "01:00:00")


def test_scripts_are_printed_and_shells_can_read_them(site, run):
    code, out, _ = run("slurm", "tiny.toml", *OPTIONS)
    assert code == 0
    heads = [line for line in out.splitlines() if line.startswith("###")]
    assert [head.split()[1] for head in heads] == ["extract:", "rest:", "evaluate:"]
    assert "--dependency=afterany:" in heads[1]
    assert "--dependency=afterok:" in heads[2]
    for line in ("--array=0-1", "--gres=gpu:1", "--partition=a100", "--constraint=big", "--signal=B:USR1@120"):
        assert f"#SBATCH {line}" in out
    assert f"PATCHBANK_STORE={site / 'store'}" in out
    subprocess.run(["bash", "-n"], input=out, text=True, check=True)
    assert out.count("-P -m cli") == 3, "a cli.py of the user's own is not run"
    assert out.count("--signal=B:USR1@120") == out.count("--requeue") == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--data", "nowhere"), "there is no data folder nowhere"), (("--store", "memory://x"), "memory of one process")],
)
def test_what_jobs_cannot_use_is_refused_before_scripts_are_made(site, run, options, said):
    code, out, err = run("slurm", "tiny.toml", *options)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err


def test_an_experiment_that_cannot_be_evaluated_gets_no_scripts(site, run):
    (site / "tiny.toml").write_text((site / "tiny.toml").read_text() + '[[analyses]]\nkind = "unknown"\n')
    code, out, err = run("slurm", "tiny.toml")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "unknown" in err


def test_a_refusal_in_the_chain_says_what_to_cancel(slurm, run, monkeypatch):
    monkeypatch.setattr("commands.slurm._patchbank", lambda: "true")
    text = (slurm.parent / "bin" / "sbatch").read_text().replace('"broken" in script', '"tiny-rest" in script')
    (slurm.parent / "bin" / "sbatch").write_text(text)
    code, _, err = run("slurm", "tiny.toml", "--submit")
    assert code == 2
    assert "take back what was submitted before with `scancel 100` and correct the options" in err


def test_without_sbatch_a_sentence_says_so(site, run, monkeypatch):
    monkeypatch.setenv("PATH", str(site))
    code, _, err = run("slurm", "tiny.toml", "--submit")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "there is no sbatch here" in err


SBATCH = """#!{python}
import os, pathlib, re, subprocess, sys
here = pathlib.Path(os.environ["FAKE_SLURM"])
script, number = sys.stdin.read(), len(list(here.glob("*.sh"))) + 1
(here / f"{{number}}.sh").write_text(script)
(here / f"{{number}}.arguments").write_text(" ".join(sys.argv[1:]))
if "broken" in script:
    sys.exit("sbatch: error: invalid partition specified: broken")
found = re.search(r"--array=0-(\\\\d+)", script)
count = int(found[1]) + 1 if found else None
for task in range(count or 1):
    own = {{"SLURM_JOB_ID": str(100 * number + task), "SLURM_CPUS_PER_TASK": "1"}}
    if count:
        own |= {{"SLURM_ARRAY_JOB_ID": str(100 * number), "SLURM_ARRAY_TASK_ID": str(task)}}
        own |= {{"SLURM_ARRAY_TASK_COUNT": str(count), "SLURM_ARRAY_TASK_MIN": "0"}}
    if os.environ.get("FAKE_SLURM_RUNS"):
        path = str(here / f"{{number}}.sh")
        done = subprocess.run(["bash", path], env=os.environ | own, capture_output=True, text=True)
        (here / f"{{number}}-{{task}}.log").write_text(f"{{done.returncode}}\\n{{done.stdout}}{{done.stderr}}")
print(f"{{100 * number}};cluster")
"""


@pytest.fixture
def slurm(site, monkeypatch):
    """An `sbatch` on the PATH that keeps what it is given, and runs it where a test asks for that."""
    folder = site / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(SBATCH.format(python=sys.executable).replace("\\\\d", "\\d"))
    (folder / "sbatch").chmod(0o755)
    (site / "slurm").mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(site / "slurm"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    return site / "slurm"


def test_scripts_are_submitted_one_after_another(slurm, run):
    code, out, _ = run("slurm", "tiny.toml", *OPTIONS, "--submit")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["submitted", "100", "extract"], ["submitted", "200", "rest"], ["submitted", "300", "evaluate"]
    ]  # fmt: skip
    given = [(slurm / f"{number}.arguments").read_text() for number in (1, 2, 3)]
    assert given == ["--parsable", "--parsable --dependency=afterany:100", "--parsable --dependency=afterok:200"]
    assert "evaluate" in (slurm / "3.sh").read_text().splitlines()[-1]


def test_what_sbatch_refuses_is_said_in_a_sentence(slurm, run):
    code, _, err = run("slurm", "tiny.toml", "--partition", "broken", "--submit")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "sbatch refused the script extract (sbatch: error: invalid partition specified: broken)" in err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_scripts_extract_and_evaluate_here(slurm, site, run, monkeypatch):
    monkeypatch.setenv("FAKE_SLURM_RUNS", "1")
    assert run("slurm", "tiny.toml", *OPTIONS, "--submit")[0] == 0
    logs = {path.stem: path.read_text() for path in slurm.glob("*.log")}
    assert sorted(logs) == ["1-0", "1-1", "2-0", "3-0"]
    assert {log.splitlines()[0] for log in logs.values()} == {"0"}, logs
    assert (site / "results" / "tiny" / "report.html").exists() or list((site / "results" / "tiny").glob("*.html"))
    assert run("extract", "tiny.toml", "--store", "alone", "--device", "cpu")[0] == 0
    features = [{one.digest: dict(one.content) for one in Store(site / name).sets()} for name in ("store", "alone")]
    assert features[0] == features[1]


JOBQUEUE = """#!{python}
import os, pathlib, subprocess, sys
here = pathlib.Path(os.environ["FAKE_SLURM"])
script = pathlib.Path(sys.argv[-1]).read_text()
(here / "worker.sh").write_text(script)
log = (here / "worker.log").open("wb")
child = subprocess.Popen(["bash", str(here / "worker.sh")], stdout=log, stderr=log, start_new_session=True)
(here / "pid").write_text(str(child.pid))
print(f"Submitted batch job {{child.pid}}")
"""
CANCEL = """#!{python}
import os, pathlib, signal
os.killpg(int((pathlib.Path(os.environ["FAKE_SLURM"]) / "pid").read_text()), signal.SIGTERM)
"""


@pytest.mark.slow
def test_workers_of_dask_jobqueue_take_tasks(slurm, site):
    """In a process of its own: dask-jobqueue warns about the network of this machine."""
    pytest.importorskip("dask_jobqueue")
    for name, text in (("sbatch", JOBQUEUE), ("scancel", CANCEL)):
        (site / "bin" / name).write_text(text.format(python=sys.executable))
        (site / "bin" / name).chmod(0o755)
    code = (
        "import dask, os\n"
        "from pipeline.schedule.clusters import connect\n"
        "settings = {'cores': 1, 'memory': '1GB', 'interface': 'lo', 'local-directory': os.environ['FAKE_SLURM']}\n"
        "dask.config.set({f'jobqueue.slurm.{name}': value for name, value in settings.items()})\n"
        "with connect('slurm:1') as cluster:\n"
        "    print(cluster.what, cluster.client.submit(os.getpid).result(timeout=120) != os.getpid())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 Slurm jobs True\n"


def test_dask_jobqueue_does_not_take_ctrl_c_for_itself():
    """In a process of its own: its handlers are set once, by the first import."""
    pytest.importorskip("dask_jobqueue")
    code = (
        "import signal\nfrom pipeline.schedule.clusters import load_dask\nload_dask('slurm:1')\n"
        "import sys\nassert 'dask_jobqueue' in sys.modules\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed cluster")
def test_without_settings_of_jobqueue_a_sentence_says_where_they_belong(run, site, monkeypatch):
    import dask

    from pipeline.schedule.clusters import connect

    pytest.importorskip("dask_jobqueue")
    with (
        dask.config.set({"jobqueue.slurm.cores": None, "jobqueue.slurm.memory": None}),
        pytest.raises(UserError, match=r"slurm:N takes cores, memory and queue from jobqueue\.slurm"),
        connect("slurm:2"),
    ):
        pass
