"""README and docs are run as they stand: files written under the names they give, commands typed, Python executed."""

import json
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL
import pytest
import timm
import torch
from PIL import Image

from demo import worlds
from stores import Store
from tests.pipeline.tiny import write_camvid

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
CAMVID = """
dataset = { name = "camvid" }
frame = { tile = 32, input = 32, edge = "shift-last" }
features = { norm = "both" }
models = [{ name = "vit_tiny_patch16_224", weights = "random" }]
selection = { train = { split = "train" }, validation = { split = "val" } }
analyses = [{ kind = "variance-spectrum", top = [3] }]
"""
FIRST, FEATURES, LABELS = "4d7cc5a32d9c", "07e897811dad", "51c2e8d09b7a"  # the digests that pages show


@dataclass
class Reader:
    """Somebody who does what a page says, in the current folder."""

    page: Path
    run: object
    digests: dict = field(default_factory=dict)
    typed: list = field(default_factory=list)
    names: dict = field(default_factory=dict)

    def follow(self):
        text = self.page.read_text()
        for block in FENCE.finditer(text):
            language, body = block.groups()
            if language == "toml":
                named = re.findall(r"`([\w/-]+\.toml)`", text[: block.start()])
                Path(named[-1]).write_text(body)
            elif language == "console":
                for line in re.split(r"\n|&&", body):
                    self.type(shlex.split(line, comments=True))
            elif language == "python":
                exec(compile(self.today(body), self.page.name, "exec"), self.names)
        return self

    def type(self, words):
        if words and words[0] == "patchbank":
            code, out, err = self.run(*(self.today(word) for word in words[1:]))
            assert code == 0, (words, err)
            self.typed.append((words[1], out))

    def today(self, text):
        for shown, find in self.digests.items():
            if shown in text:
                text = text.replace(shown, find())
        return text


@pytest.fixture(autouse=True)
def empty_folder(here, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(here))


def first(kind):
    return lambda: next(one.digest for one in Store(Path("store")).sets() if one.spec.kind == kind)


def photos(folder, names, suffix, paint):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(paint(np.random.default_rng(number))).save(Path(folder) / f"{name}{suffix}")


def noise(seed):
    return seed.integers(0, 256, (360, 480, 3), dtype=np.uint8)


def mask(seed):
    return seed.integers(0, 12, (9, 12), dtype=np.uint8).repeat(40, axis=0).repeat(40, axis=1)


@pytest.mark.slow  # ten seconds; by default tests/test_newcomer.py types a newcomer's session
def test_first_steps_with_own_pictures(run):
    page = ROOT / "docs" / "start.md"
    photos("data/photos", range(20), ".jpg", noise)
    photos("data/fields", ("0001", "0002"), ".png", noise)
    Path("weights").mkdir()
    for epoch in (10, 20):
        torch.manual_seed(epoch)
        state = timm.create_model("vit_tiny_patch16_224").state_dict()
        torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, f"weights/epoch-{epoch}.pth")
    photos("data/fields", ("mask_0001", "mask_0002"), ".png", mask)
    (table,) = (body for _, body in FENCE.findall(page.read_text()) if body.startswith("image,"))
    Path("data/fields.csv").write_text(table)
    reader = Reader(page, run, {FIRST: first("features")}).follow()
    assert "made    80 rows of features, 0 of labels" in reader.typed[0][1]
    assert reader.names["table"]["metric"].eq("patch_miou").any()
    cka, distance = reader.names["cka"], reader.names["distance"]
    assert cka["value"].notna().sum() == 12 * 12
    assert distance["value"].between(110, 120).sum() == 2 * 12, (
        "attention of random weights is nearly uniform: 116.5 px"
    )
    for name in ("photos", "fields", "checkpoints"):
        assert Path("results", name, "report.html").exists()
        assert len(Path(f"{name}.toml").read_text().splitlines()) <= 14, "the page promises ten lines or so"


def test_python_with_an_own_module(run):
    Reader(ROOT / "docs" / "library.md", run).follow()
    assert len(list(Store(Path("store")).sets())) == 2


def test_exchange_and_the_script_of_the_readme(run):
    write_camvid(Path("data", "camvid"))
    Path("experiments").mkdir()
    Path("experiments", "camvid.toml").write_text(CAMVID)
    assert run("extract", "experiments/camvid.toml")[0] == 0
    digests = {FEATURES: first("features"), LABELS: first("labels")}
    reader = Reader(ROOT / "docs" / "exchange.md", run, digests).follow()
    assert [name for name, _ in reader.typed].count("export") == 6
    assert "made    1 result" in dict(reader.typed)["evaluate"]
    blocks = [body for language, body in FENCE.findall((ROOT / "README.md").read_text()) if language == "python"]
    assert blocks
    for block in blocks:
        exec(compile(reader.today(block), "README.md", "exec"), {})


@pytest.mark.slow
def test_digests_of_the_demo_are_those_that_make_demo_makes(here, run):
    """A newcomer who types `patchbank open` or `show` with the digest on the first page has to find the set."""
    pinned = (ROOT / "requirements" / "cpu.txt").read_text()
    if f"pillow=={PIL.__version__}" not in pinned:
        pytest.skip(f"PNG files of Pillow {PIL.__version__} may have other bytes than those of the pinned release")
    worlds.paint("street-nuisances", here / "data")
    demo = ROOT / "experiments" / "demo.toml"
    planned = json.loads(run("plan", demo, "--json", "--no-time")[1])["models"]
    digests = {one["set"][:12] for one in planned}
    listed = set(re.findall(r"^([0-9a-f]{12})  features ", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert listed == digests
    named = re.findall(r"[0-9a-f]{12}", (ROOT / "docs" / "concepts.md").read_text())
    assert set(named) <= digests


def test_the_first_page_says_how_the_command_is_found():
    """`make demo` installs into .venv and calls the command there; a shell finds it only once that is activated."""
    text = (ROOT / "README.md").read_text()
    assert text.index("source .venv/bin/activate") < text.index("`patchbank ls`")


def test_shell_scripts_parse_and_their_commands_exist():
    """Clusters are not here: bash reads the scripts without running them; flags are checked with all others."""
    scripts = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_every_block_is_of_a_kind_that_is_run():
    """`text` is for trees, tables of files and output; anything else would stand on a page untried."""
    for page in PAGES:
        kinds = {language for language, _ in FENCE.findall(page.read_text())}
        assert kinds <= {"python", "console", "toml", "bash", "json", "text", ""}, page.name
