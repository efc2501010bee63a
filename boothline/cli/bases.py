"""Commands on the base models and encoders in the store: base add, base list, base remove."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from boothline.cli.keeping import progress, stored
from boothline.cli.options import Home, Output, OutputOption, example
from boothline.cli.printing import emit, say, say_table

if TYPE_CHECKING:
    from rich.console import Console

    from boothline.diffusion.bases import StoredModel

app = typer.Typer()
base = typer.Typer(no_args_is_help=True, help="Base models and encoders in the store.")
app.add_typer(base, name="base")

_MEBIBYTE = 2**20


@base.callback()
def _base() -> None:
    """Base models and encoders in the store, where every step, pod and node finds them."""


@base.command(
    epilog=example(
        "boothline base add ./stable-diffusion-v1-5 --name sd15",
        "boothline base add OWNER/MODEL@COMMIT --name sdxl",
        "boothline base add my-mix.safetensors --name my-mix --like base:sd15",
    )
)
def add(
    source: Annotated[
        str, typer.Argument(help="Folder, OWNER/MODEL@COMMIT of the hub, or FILE.safetensors.")
    ],
    name: Annotated[str, typer.Option("--name", help="What to call it: base:NAME.")],
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            help="For a single file: a model of the same architecture, for all but the weights.",
            show_default=False,
        ),
    ] = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check a model and put it into the store, once for every step, pod and node."""
    from boothline.launch.bases import add_base
    from boothline.launch.local.session import open_session

    session = open_session(home)
    with progress("storing", unit_bytes=_MEBIBYTE, unit="MiB") as report:
        stored = add_base(
            session.store,
            source,
            name=name,
            settings=session.settings,
            like=like,
            on_progress=report,
        )
    emit(_summary(stored), output, lambda target: _say_added(target, stored, name))


@base.command(name="list", epilog=example("boothline base list --output json"))
def list_(home: Home = None, output: OutputOption = Output.TEXT) -> None:
    """List the base models and encoders in the store."""
    from boothline.diffusion.bases import listed
    from boothline.launch.local.session import open_session

    models = listed(open_session(home, start=False).store)
    emit(
        {"bases": [_summary(model) for model in models]},
        output,
        lambda target: _say_list(target, models),
    )


@base.command(epilog=example("boothline base remove sd15"))
def remove(
    name: Annotated[str, typer.Argument(help="The name, without base:.")],
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a name away, and with its last name the model; `boothline gc` frees the space."""
    from boothline.diffusion.bases import remove as take_away

    with stored(home) as store:
        model = take_away(store, name)
    emit(
        {"removed": name, "digest": model.digest},
        output,
        lambda target: say(
            target, f"base:{name} is gone. `boothline gc --delete` frees its space."
        ),
    )


def _summary(model: "StoredModel") -> dict[str, Any]:
    return {
        "names": list(model.names),
        "digest": model.digest,
        "family": model.facts.family,
        "source": model.facts.source,
        "license": model.facts.license,
        "num_bytes": model.num_bytes,
        "manifest": str(model.ref),
    }


def _say_added(target: "Console", model: "StoredModel", name: str) -> None:
    kind = model.facts.family or "encoder"
    size = f"{model.num_bytes / _MEBIBYTE:,.0f} MiB in {len(model.files)} files"
    say(target, f"base:{name} is stored: {kind}, {size}, digest {model.digest[:12]}.")
    if model.facts.family:
        say(target, f"Next: boothline init PICTURES --base-model base:{name} --class-noun NOUN")
    else:
        say(target, f"Use it as evaluation.dino_model, clip_model or lpips_model: base:{name}")


def _say_list(target: "Console", models: "list[StoredModel]") -> None:
    if not models:
        say(target, "No base model is stored yet. Add one: boothline base add FOLDER --name NAME")
        return
    rows = [
        (
            ", ".join(f"base:{name}" for name in model.names) or f"base:{model.digest[:12]}",
            model.facts.family or "encoder",
            f"{model.num_bytes / _MEBIBYTE:,.0f} MiB",
            model.digest[:12],
            model.facts.license or "-",
            model.facts.source,
        )
        for model in models
    ]
    say_table(target, ("Name", "Kind", "Size", "Digest", "Licence", "From"), rows)
