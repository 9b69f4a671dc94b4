"""``python -m demo.backbones train FILE --out DIR``: trains the backbone of a TOML file."""

import argparse
import sys
from pathlib import Path

from stores.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 for settings that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m demo.backbones", description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train the backbone of a TOML file")
    train.add_argument("file", type=Path, help="settings, such as demo/backbones/mae.toml")
    train.add_argument("--out", type=Path, required=True, help="folder for weights, log, curve and record")
    train.add_argument("--cache", type=Path, help="folder in which painted frames are kept between runs")
    train.add_argument("--threads", type=int, default=1, help="threads of torch; each number has its own weights")
    train.add_argument("--steps", type=int, help="take this many steps instead, to try it")
    train.add_argument("--batch", type=int, help="images a step, likewise")
    chosen = parser.parse_args(arguments)
    from demo.backbones.settings import read_settings
    from demo.backbones.training import train as train_backbone

    try:
        changes = {name: getattr(chosen, name) for name in ("steps", "batch") if getattr(chosen, name) is not None}
        for name, value in (*changes.items(), ("threads", chosen.threads)):
            if value < 1:
                raise UserError(f"--{name} {value}: give 1 or more")
        settings = read_settings(chosen.file, **changes)
        path = train_backbone(settings, chosen.out, cache=chosen.cache, threads=chosen.threads, report=_say)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        where = error.filename or chosen.out
        sys.stderr.write(f"error: cannot write {where} ({error.strerror}): choose another --out or --cache\n")
        return 2
    _say(f"wrote {path}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
