"""Trains one backbone: the loop that all objectives share, its log, its curve and the saved weights."""

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch.nn.attention import SDPBackend, sdpa_kernel

from demo.backbones.contrastive import MocoObjective
from demo.backbones.crops import Cropper
from demo.backbones.curve import draw_curve
from demo.backbones.distilled import DinoObjective
from demo.backbones.encoder import new_encoder, parameter_groups
from demo.backbones.frames import paint_frames
from demo.backbones.masked import MaeObjective, SimMimObjective
from demo.backbones.score import score
from demo.backbones.settings import Dino, Mae, Moco, Optimisation, Settings, SimMim
from demo.backbones.supervised import SupervisedObjective
from stores.errors import UserError
from stores.storage.cores import available_cores

Objective = MaeObjective | SimMimObjective | DinoObjective | MocoObjective | SupervisedObjective
Report = Callable[[str], None]


def train(
    settings: Settings,
    out: Path,
    *,
    cache: Path | None = None,
    threads: int = 1,
    report: Report = lambda line: None,
) -> Path:
    """Train a backbone and return the file of its weights; equal settings give equal bytes on the same machine.

    Writes below ``out``: ``<name>.safetensors`` (float16), ``<name>.log.jsonl`` (loss of a step and the
    scores before it), ``<name>.svg`` (both as curves) and ``<name>.json`` (settings, machine, minutes, threads, final
    scores).

    Args:
        settings: All hyper-parameters.
        out: Folder to write to.
        cache: Folder in which painted frames are kept between runs.
        threads: Threads of torch; other numbers round otherwise and give slightly other weights.
        report: Takes the lines that are logged.

    Raises UserError where the loss is no number any more.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _train(settings, out, cache, threads, report)
    finally:
        torch.set_num_threads(before)


def objective_of(settings: Settings) -> Objective:
    """Return the objective, with initial weights from the seed."""
    options = settings.objective
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 1)
        if isinstance(options, Mae):
            return MaeObjective(settings, options)
        if isinstance(options, SimMim):
            return SimMimObjective(settings, options)
        if isinstance(options, Dino):
            return DinoObjective(settings, options)
        if isinstance(options, Moco):
            return MocoObjective(settings, options)
        return SupervisedObjective(settings, options)


def learning_rate(step: int, optimisation: Optimisation) -> float:
    """Return the rate of a step, counted from 0: it rises linearly, then falls along a cosine."""
    if step < optimisation.warmup:
        return optimisation.learning_rate * (step + 1) / optimisation.warmup
    done = (step - optimisation.warmup) / max(1, optimisation.steps - optimisation.warmup)
    return optimisation.learning_rate * (1 + math.cos(math.pi * done)) / 2


def _train(settings: Settings, out: Path, cache: Path | None, threads: int, report: Report) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    options, started = settings.optimisation, time.monotonic()
    report(f"{settings.name} paints {settings.world.scenes} scenes, or reads them from the cache")
    frames = paint_frames(settings.world, cache=cache)
    probed = settings.world.model_copy(update={"scenes": settings.probe_scenes, "cities": 4})
    held_out = [paint_frames(probed, purpose, cache) for purpose in ("probe-training", "probe-validation")]
    painted = time.monotonic()
    encoder = new_encoder(settings.seed, fixed_positions=isinstance(settings.objective, Mae))
    objective = objective_of(settings)
    cropper = Cropper(frames, torch.Generator().manual_seed(settings.seed))
    groups = parameter_groups([encoder, objective], options.weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=options.betas)
    log: list[dict[str, Any]] = []
    for step in range(options.steps + 1):
        line: dict[str, Any] = {"step": step}
        if step % settings.probe_every == 0 or step == options.steps:  # at step 0 too: what training has to beat
            line |= asdict(score(_trained(encoder, objective), *held_out))
        if step < options.steps:
            rate = learning_rate(step, options)
            loss = _update(encoder, objective, cropper, optimiser, rate, options)
            if not math.isfinite(loss):
                raise UserError(f"the loss of step {step} is {loss}: give a lower learning_rate; nothing was written")
            if step % settings.log_every == 0:
                line |= {"loss": round(loss, 6), "learning_rate": round(rate, 8)}
        if len(line) > 1:
            log.append(line)
            report(f"{settings.name} " + " ".join(f"{key} {_short(value)}" for key, value in line.items()))
    minutes = {"painting": (painted - started) / 60, "training": (time.monotonic() - painted) / 60}
    machine = {"machine": platform.machine(), "instructions": torch.backends.cpu.get_cpu_capability()}
    facts = {**machine, "cores": available_cores(), "threads": threads, **minutes}
    return _save(settings, out, _trained(encoder, objective), objective, log, facts)


def _update(
    encoder: Any,
    objective: Objective,
    cropper: Cropper,
    optimiser: torch.optim.Optimizer,
    rate: float,
    options: Optimisation,
) -> float:
    """Take one step and return its loss."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    # The fused attention of CPUs is slow backwards, half of a step's time; with plain products a step of DINO took
    # 0.44 s instead of 0.65.
    with sdpa_kernel(SDPBackend.MATH):
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            loss = objective.loss(encoder, cropper)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
    trained = [value for part in (encoder, objective) for value in part.parameters() if value.grad is not None]
    torch.nn.utils.clip_grad_norm_(trained, options.clip)
    if isinstance(objective, DinoObjective):
        objective.before_update()
    optimiser.step()
    if isinstance(objective, DinoObjective | MocoObjective):
        objective.after_update(encoder)
    return float(loss.detach())


def _trained(encoder: Any, objective: Objective) -> Any:
    return objective.trained(encoder) if isinstance(objective, DinoObjective) else encoder


def _save(
    settings: Settings, out: Path, encoder: Any, objective: Objective, log: list[dict[str, Any]], facts: dict[str, Any]
) -> Path:
    weights = {**encoder.state_dict(), **objective.saved()}
    path = out / f"{settings.name}.safetensors"
    path.write_bytes(save({key: value.detach().half().contiguous() for key, value in weights.items()}))
    lines = "".join(json.dumps(line) + "\n" for line in log)
    (out / f"{settings.name}.log.jsonl").write_text(lines, encoding="utf-8", newline="\n")
    draw_curve(settings.name, log, out / f"{settings.name}.svg")
    record = {**facts, "torch": torch.__version__, "last": log[-1], "settings": settings.canonical()}
    (out / f"{settings.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8", newline="\n")
    return path


def _short(value: float) -> str:
    return f"{value:.4g}"
