"""The commands that make pictures: generate, serve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.options import Home, Output, OutputOption, example
from boothline.cli.printing import console, emit, say, say_lines
from boothline.errors import ConfigError

if TYPE_CHECKING:
    from boothline.config.sampling import SamplingConfig
    from boothline.pictures.prompts import PromptRow

app = typer.Typer()

Prompt = Annotated[str | None, typer.Argument(help="What the pictures show.", show_default=False)]
Prompts = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FILE", help="Prompts and their settings; see below."),
]
Negative = Annotated[
    str | None,
    typer.Option("--negative", help="What the pictures do not show.", show_default=False),
]
Image = Annotated[
    Path | None, typer.Option("--image", help="Picture to start from (image-to-image).")
]
Mask = Annotated[
    Path | None,
    typer.Option("--mask", help="What to paint again in --image, in white; the rest is kept."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME[@VERSION]",
        help="Model and version, champion by default; the last run's model by default.",
    ),
]
OutputDir = Annotated[
    Path,
    typer.Option("--output-dir", help="Folder for the pictures; nothing in it is overwritten."),
]
NumImages = Annotated[int, typer.Option("--images", min=1, max=1000, help="Pictures per prompt.")]
Sheet = Annotated[bool, typer.Option("--sheet", help="Write a sheet with all pictures too.")]
Strength = Annotated[
    float | None,
    typer.Option(
        "--strength",
        min=0,
        max=1,
        help="How far to go from --image: 0 keeps it, 1 forgets it; 0.8 by default.",
        show_default=False,
    ),
]


Sampler = Annotated[
    str | None,
    typer.Option("--sampler", help="How noise is taken away, e.g. euler_a.", show_default=False),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, max=1000, help="Denoising steps.", show_default=False),
]
Guidance = Annotated[
    float | None,
    typer.Option("--guidance", min=0, max=50, help="Guidance scale.", show_default=False),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="WIDTHxHEIGHT",
        help="Size in pixels, multiples of 8; the model's own by default.",
        show_default=False,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="What it is computed in: fp32, bf16, or with CUDA fp16; the latter two take half "
        "the memory.",
    ),
]
_COLUMNS = (
    "--prompts FILE: a prompt a line (.txt), or rows (.csv, .jsonl) with prompt and any of "
    "negative_prompt, seed, num_steps, guidance_scale, sampler, width_px, height_px, image, mask, "
    "strength; what a row leaves out comes from the options."
)


@app.command(
    epilog=_COLUMNS
    + "\n\n"
    + example(
        'boothline generate "a photo of sks bear on grass" --model boothline-teddy-bear@champion',
        'boothline generate "a photo of sks bear in snow" --image photo.png --mask sky.png',
    )
)
def generate(  # noqa: PLR0913  (every argument is an option of the command)
    prompt: Prompt = None,
    prompts: Prompts = None,
    sampler: Sampler = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative: Negative = None,
    size: Size = None,
    precision: Precision = "fp32",
    image: Image = None,
    mask: Mask = None,
    strength: Strength = None,
    model: Model = None,
    output_dir: OutputDir = Path("pictures"),
    num_images: NumImages = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 0,
    sheet: Sheet = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make pictures with a registered model, from noise or from a picture."""
    from boothline.launch.generating import make_pictures
    from boothline.launch.local.folder import existing_folder
    from boothline.launch.local.session import existing_session, home_folder

    rows = _with_edit(_rows(prompt, prompts), image=image, mask=mask, strength=strength)
    rows = _with_size(rows, size)
    given: dict[str, object] = {"sampler": sampler, "num_steps": steps, "guidance_scale": guidance}
    given["precision"] = precision
    sampling = _sampling(given | {"negative_prompt": negative, "seed": seed})
    if model is None:
        model = existing_folder(home_folder(home), None).read_config().model_name
    name, _, version = model.partition("@")
    what = f"Making {len(rows) * num_images} pictures with {name}"
    with console(stderr=True).status(what) as status, existing_session(home) as session:
        made = make_pictures(
            session,
            rows,
            model=(name, version or "champion"),
            folder=output_dir,
            num_images=num_images,
            sampling=sampling,
            sheet=sheet,
            on_progress=lambda done, total: status.update(f"{what}: {done} of {total}"),
        )
    for remark in made.remarks:
        style = "yellow" if remark.startswith("Warning:") else ""
        say(console(stderr=True), remark, style=style)
    lines = [*made.pictures, *([made.sheet] if made.sheet else [])]
    emit(made, output, lambda target: say_lines(target, lines))


@app.command(
    epilog=example(
        "boothline serve boothline-teddy-bear",
        'curl --json \'{"prompt": "a photo of sks bear"}\' 127.0.0.1:8080/generate -o bear.png',
    )
)
def serve(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[@ALIAS]",
            help="Registered model, and champion (the default), challenger or a number.",
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; it asks for no password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="TCP port.")] = 8080,
    queue: Annotated[
        int, typer.Option("--queue", min=1, help="Requests that may wait; further ones get 429.")
    ] = 16,
    precision: Precision = "fp32",
    home: Home = None,
) -> None:
    """Answer prompts over HTTP with a registered model, swapped when another is promoted."""
    from boothline.launch.local.session import existing_session
    from boothline.launch.serve import Followed, application, listen

    name, _, selector = model.partition("@")
    target = console(stderr=True)
    lowered = _sampling({"precision": precision}).precision
    with target.status(f"Loading {name}"), existing_session(home) as session:
        followed = Followed(session, name, selector or "champion", precision=lowered)
        app = application(followed, queue_limit=queue)
    version = followed.model.version
    say(target, f"{name} version {version.version} ({version.digest[:12]}) answers at")
    say(target, f"http://{host}:{port}/generate; http://{host}:{port}/openapi.json describes it.")
    say(target, f"Try prompts on http://{host}:{port}/ in a browser.")
    with followed.following():
        listen(app, host=host, port=port)


def _rows(prompt: str | None, prompts: Path | None) -> "list[PromptRow]":
    """Return the rows of the prompt or of the prompt file, of which one must be given."""
    from boothline.pictures.prompts import PromptRow, read_prompts

    if (prompt is None) == (prompts is None):
        raise ConfigError(
            "Give either a prompt or --prompts FILE.",
            remedy='For example: boothline generate "a photo of sks bear on the moon".',
        )
    return [PromptRow(prompt=prompt)] if prompt is not None else read_prompts(Path(str(prompts)))


def _sampling(given: Mapping[str, object]) -> "SamplingConfig":
    """Return the sampling settings that options give over the defaults.

    Raises:
        ConfigError: one of them is wrong.
    """
    from difflib import get_close_matches
    from typing import get_args

    from pydantic import ValidationError

    from boothline.config.sampling import SamplerName, SamplingConfig

    values = {name: value for name, value in given.items() if value is not None}
    try:
        return SamplingConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).partition("_")[0].replace("num", "steps")
        near = get_close_matches(str(first["input"]), get_args(SamplerName), n=1)
        raise ConfigError(
            f"--{option} {first['input']}: {first['msg']}.",
            remedy=f"Did you mean {near[0]}?" if near and option == "sampler" else "",
        ) from error


def _with_size(rows: "Sequence[PromptRow]", size: str | None) -> "list[PromptRow]":
    """Return the rows with a size, where they name none of their own.

    Raises:
        ConfigError: it is not a size that pictures can have.
    """
    if size is None:
        return list(rows)
    from boothline.pictures.table import size_of

    width, height = size_of(size, name="--size")
    edit = {"width_px": width, "height_px": height}
    return [row if row.width_px or row.height_px else row.model_copy(update=edit) for row in rows]


def _with_edit(
    rows: "Sequence[PromptRow]", *, image: Path | None, mask: Path | None, strength: float | None
) -> "list[PromptRow]":
    """Return the rows with the picture to start from, where they name none of their own."""
    if image is None:
        if mask is not None or strength is not None:
            raise ConfigError(
                "--mask and --strength change a picture, but there is no --image.",
                remedy="Name the picture with --image FILE.",
            )
        return list(rows)
    for file in (image, mask):
        if file is not None and not file.is_file():
            raise ConfigError(f"The picture {file} does not exist.", remedy="Check its path.")
    edit = {
        "image": str(image.resolve()),
        "mask": str(mask.resolve()) if mask else None,
        "strength": strength,
    }
    return [row if row.image else row.model_copy(update=edit) for row in rows]
