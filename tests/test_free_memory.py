"""Free memory is the machine's, or what the strictest control group above the process leaves."""

import psutil

from commands.experiment.free_memory import free_memory


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
