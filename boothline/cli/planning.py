"""The command on memory: plan."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from boothline.cli.configuring import load_config
from boothline.cli.options import Configs, Home, Output, OutputOption, Overrides, Subject, example
from boothline.cli.printing import emit, say, say_table
from boothline.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from boothline.config import RunConfig
    from boothline.planning import ModelShapes
    from boothline.planning.memory import Rung

app = typer.Typer()

GB = 10**9
CARDS_GB = (8, 12, 16, 24, 40, 80)
"""Memory of common accelerators, in gigabytes."""

_MEANING = {
    "process": "interpreter, libraries, device context",
    "weights": "all networks, float32",
    "optimizer": "its states",
    "average": "averaged weights",
    "step": "activations and gradients at their highest",
    "snapshot": "a training state on its way to the store",
}


@app.command(
    epilog=example(
        "boothline plan examples/presets/sd15-full.yaml --family sd15 --device cuda",
        "boothline plan run.yaml --memory-gb 12 --device cuda",
    )
)
def plan(
    configs: Configs = None,
    overrides: Overrides = None,
    subject: Subject = None,
    family: Annotated[
        str | None,
        typer.Option(
            "--family",
            help="Sizes of a known model (sd15, sd21, sdxl, sd35, sd35-medium, flux, flux2-klein, "
            "z-image, qwen-image) instead of the base model's folder.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    memory_gb: Annotated[
        float | None,
        typer.Option(
            "--memory-gb",
            min=0.1,
            help="Refuse (exit code 2) when one rank needs more than these gigabytes.",
            show_default=False,
        ),
    ] = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Predict the memory of one training rank, and what to change so that it fits."""
    from boothline.planning.memory import ladder

    config = load_config(configs, overrides, subject, needs_subject=False)
    shapes = _shapes(config, family, home)
    smallest_gb = min(*CARDS_GB, memory_gb or math.inf)
    rungs = _down_to(smallest_gb * GB, ladder(config, shapes, device=_device(device)))
    cards = {size: _fitting(rungs, size * GB) for size in CARDS_GB}
    result = {
        "model": shapes.name,
        "device": device,
        "total_bytes": rungs[0].plan.total,
        "parts": rungs[0].plan.parts(),
        "num_trained": rungs[0].plan.num_trained,
        "cards": {
            f"{size} GB": None if rung is None else dict(rung.changes)
            for size, rung in cards.items()
        },
    }
    emit(result, output, lambda target: _show(target, result, rungs, cards))
    if memory_gb is not None and rungs[0].plan.total > memory_gb * GB:
        _refuse(rungs, memory_gb=memory_gb)


def _device(name: str) -> Literal["cpu", "cuda"]:
    """Return a device's name, checked."""
    if name == "cpu":
        return "cpu"
    if name == "cuda":
        return "cuda"
    raise ConfigError(f"--device {name} is unknown.", remedy="Use cpu or cuda.")


def _shapes(config: "RunConfig", family: str | None, home: Path | None) -> "ModelShapes":
    """Return the sizes of the family, or of the base model on disk."""
    from boothline.diffusion.base_model import checked_family, resolve
    from boothline.diffusion.layout import check_config
    from boothline.diffusion.presets import check_fit, native_px, native_px_of, usual_px
    from boothline.evaluation.judges import check_judges
    from boothline.launch.local.session import home_folder, settings_for
    from boothline.planning import ModelShapes
    from boothline.planning.shapes import FAMILIES

    if family is None:
        base = config.base_model
        settings = settings_for([base.source], home_folder(home))
        found = resolve(base.source, settings=settings, allow_hub=base.allow_hub, need="settings")
        known = checked_family(found)
        check_config(known, config)
        native = native_px_of(found.path, known)
        check_fit(config, native)
        check_judges(config, native=usual_px(known, native))
        return ModelShapes.read(found.path)
    if family not in FAMILIES:
        raise ConfigError(
            f"--family {family} is unknown.", remedy=f"Use one of: {', '.join(FAMILIES)}."
        )
    shapes = FAMILIES[family]
    check_config(shapes.family, config)
    native = native_px(shapes.family, shapes.configs)
    check_fit(config, native)
    check_judges(config, native=usual_px(shapes.family, native))
    return shapes


def _down_to(limit_bytes: float, rungs: Iterable["Rung"]) -> list["Rung"]:
    """Return the rungs up to the first that fits: tracing those below it would show nothing new."""
    walked = []
    for rung in rungs:
        walked.append(rung)
        if rung.plan.total <= limit_bytes:
            break
    return walked


def _fitting(rungs: Sequence["Rung"], limit_bytes: float) -> "Rung | None":
    """Return the first rung that fits."""
    return next((rung for rung in rungs if rung.plan.total <= limit_bytes), None)


def _show(
    target: "Console",
    result: dict[str, Any],
    rungs: Sequence["Rung"],
    cards: dict[int, "Rung | None"],
) -> None:
    """Print in one line what is needed and what it fits, then the plan as tables."""
    say(target, _in_short(result, cards), style="bold")
    parts = result["parts"].items()
    rows = [(name, _gb(size), _MEANING[name]) for name, size in parts if size]
    rows.append(("total", _gb(rungs[0].plan.total), "predicted peak of one rank"))
    say_table(target, ("Part", "GB", "What"), rows)
    helped = [(f"{size} GB", _advice(rung)) for size, rung in cards.items() if _is_helped(rung)]
    if helped:
        say_table(target, ("Memory", "Fits"), helped)
    say(target, f"{result['num_trained']:,} trained numbers of {result['model']}.")


def _in_short(result: dict[str, Any], cards: dict[int, "Rung | None"]) -> str:
    """Return what a rank needs, and the smallest card that it fits as it is."""
    needed = f"Needs {result['total_bytes'] / GB:.1f} GB"
    fitting = [size for size, rung in cards.items() if rung is not None and not rung.changes]
    what = "any GPU" if result["device"] == "cuda" else "memory"
    if not fitting:
        return f"{needed}: fits no usual card as it is."
    return f"{needed}: fits {what} of {min(fitting)} GB or more."


def _is_helped(rung: "Rung | None") -> bool:
    """Return whether the one line does not say it all: other settings are needed, or none help."""
    return rung is None or bool(rung.changes)


def _advice(rung: "Rung | None") -> str:
    """Return in words whether a card is enough."""
    if rung is None:
        return "no"
    if not rung.changes:
        return "as it is"
    return f"with {_settings(rung)} ({_gb(rung.plan.total)} GB)"


def _settings(rung: "Rung") -> str:
    """Return the changes of a rung as they are written after --set."""
    return " ".join(f"{name}={_yaml(value)}" for name, value in rung.changes.items())


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse(rungs: Sequence["Rung"], *, memory_gb: float) -> None:
    """Say that the training does not fit, and what would."""
    rung = _fitting(rungs, memory_gb * GB)
    raise ConfigError(
        f"One rank needs {_gb(rungs[0].plan.total)} GB, more than {memory_gb:g} GB.",
        remedy=f"It fits with {_settings(rung)}."
        if rung is not None
        else f"With every saving it needs {_gb(rungs[-1].plan.total)} GB: use a larger device, "
        "a smaller subject.resolution_px or a smaller base model.",
    )


def _gb(size: int) -> str:
    return f"{size / 10**9:.2f}"
