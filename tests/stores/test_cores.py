"""How many cores this process may use: the scheduler, the control group and Slurm can each leave fewer."""

import os

import pytest

from pipeline.extraction.loading import default_workers
from stores.storage import cores
from stores.storage.cores import available_cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Sets what the machine says; 64 cores, no quota and no Slurm at first."""
    quota = tmp_path / "cpu.max"

    def says(affinity=64, cpu_max="max 100000", slurm=None):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
        monkeypatch.setattr(cores, "_QUOTAS", (quota,))
        quota.write_text(cpu_max)
        monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
        if slurm is not None:
            monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)

    says()
    return says


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ({}, 64),
        ({"affinity": 6}, 6),
        ({"cpu_max": "400000 100000"}, 4),
        ({"cpu_max": "150000 100000"}, 2),
        ({"cpu_max": "50000 100000"}, 1),
        ({"cpu_max": "9900000 100000"}, 64),
        ({"slurm": "8"}, 8),
        ({"slurm": "128"}, 64),
        ({"slurm": "8", "cpu_max": "300000 100000", "affinity": 12}, 3),
        ({"affinity": 1, "slurm": "8"}, 1),
    ],
)
def test_the_smallest_limit_counts(machine, says, expected):
    machine(**says)
    assert available_cores() == expected


@pytest.mark.parametrize("text", ["", "0", "-2", "many", "4(x2)"])
def test_what_slurm_does_not_say_as_a_number_is_no_limit(machine, text):
    machine(slurm=text)
    assert available_cores() == 64


@pytest.mark.parametrize("text", ["", "max", "100000", "x 100000", "100000 0"])
def test_a_quota_that_cannot_be_read_is_no_limit(machine, text):
    machine(cpu_max=text)
    assert available_cores() == 64


def test_a_machine_without_affinity_or_control_groups_has_all_its_cores(machine, monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(cores, "_QUOTAS", (tmp_path / "none",))
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert available_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


@pytest.mark.parametrize(("n_cores", "workers"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3), (16, 14)])
def test_two_cores_are_left_to_the_model_and_the_writers(machine, n_cores, workers):
    machine(affinity=n_cores)
    assert default_workers() == workers
