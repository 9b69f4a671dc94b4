"""Fuzz every parser of strangers' bytes: ``python -m tests.fuzz [seconds [target ...]]``.

Needs atheris (the extra ``fuzz``). Prints time, executions, covered edges and features of each target, and leaves
with 1 when a target raised anything but an error made for users; libFuzzer names the file with the bytes.
"""

import re
import subprocess
import sys
import time

from tests.fuzz.targets_by_name import targets


def say(line, stream=sys.stdout):
    stream.write(line + "\n")
    stream.flush()


def main():
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    failed = False
    say("| target | seconds | executions | edges | features | found |")
    say("|---|---|---|---|---|---|")
    for name in sys.argv[2:] or targets():
        before = time.perf_counter()
        command = [sys.executable, "-m", "tests.fuzz.one", name, seconds]
        run = subprocess.run(command, capture_output=True, text=True, errors="replace")
        took = time.perf_counter() - before
        lines = re.findall(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)", run.stderr)
        n, edges, features = lines[-1] if lines else ("-", "-", "-")
        found = "something" if run.returncode else "nothing"
        say(f"| {name} | {took:.0f} | {n} | {edges} | {features} | {found} |")
        if run.returncode:
            failed = True
            say("\n".join([*run.stdout.splitlines()[-30:], *run.stderr.splitlines()[-12:]]), sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
