"""Fuzz one target with atheris: ``python -m tests.fuzz.one TARGET SECONDS``; what it finds is written and named."""

import sys
import tempfile
import warnings
from pathlib import Path


def main() -> None:
    import atheris

    name, seconds = sys.argv[1], int(sys.argv[2])
    with atheris.instrument_imports(include=["stores", "pipeline", "commands", "tomllib", "configparser", "csv"]):
        from tests.fuzz.targets_by_name import targets
    warnings.simplefilter("ignore")  # Pillow's remarks on broken files
    target = targets()[name]
    with tempfile.TemporaryDirectory() as corpus:
        for place, seed in enumerate((*target.seeds, *target.findings)):
            Path(corpus, str(place)).write_bytes(seed)
        found = f"-artifact_prefix={tempfile.gettempdir()}/patchbank-{name}-"
        options = [found, f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3000", "-max_len=8192"]
        atheris.Setup([sys.argv[0], *options, corpus], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
