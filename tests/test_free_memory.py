"""Memory that this process may use: the machine's, that of the strictest control group, and its address space."""

import resource
import subprocess
import sys

import psutil
import pytest

from commands.experiment.address_space import check_address_space
from commands.experiment.free_memory import free_memory
from stores.errors import UserError


class Done:
    def __init__(self, returncode):
        self.returncode = returncode


def group(folder, limit, used, inactive=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\n")


def test_the_strictest_group_counts_and_pages_that_can_be_dropped_are_free(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("0::/job/step\n")
    group(tmp_path / "root" / "job" / "step", "max", 5_000)
    group(tmp_path / "root" / "job", 90_000, 50_000, inactive=20_000)
    assert free_memory(tmp_path / "root", own) == 60_000
    group(tmp_path / "root" / "job" / "step", 1_000, 5_000)
    assert free_memory(tmp_path / "root", own) == 0


def test_without_groups_it_is_the_machines(tmp_path):
    assert 0 < free_memory(tmp_path, tmp_path / "absent") <= psutil.virtual_memory().total


def test_libraries_are_tried_in_a_process_of_its_own_where_address_space_is_limited(monkeypatch):
    """Memory that runs out while it is loaded ends the process, hangs or is any error, which no handler would catch."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    check_address_space()  # without a limit nothing is tried
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 45, resource.RLIM_INFINITY))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: limits.append(int(command[-1])) or Done(0))
    check_address_space()
    assert 1 << 44 < limits[0] < 1 << 45, "less what this process has mapped"
    for failed in (Done(134), Done(1)):
        monkeypatch.setattr(subprocess, "run", lambda command, failed=failed, **_: failed)
        with pytest.raises(UserError, match=r"hardly suffice to load torch and compute: raise the limit \(`ul"):
            check_address_space()
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (200 << 20, resource.RLIM_INFINITY))
    with pytest.raises(UserError, match="hardly suffice"):
        check_address_space()
