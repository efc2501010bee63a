"""The command that makes pictures: generate."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.options import Home, Output, OutputOption, example
from boothline.cli.printing import console, emit, say_lines
from boothline.errors import ConfigError

if TYPE_CHECKING:
    from boothline.pictures.prompts import PromptRow

app = typer.Typer()

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


@app.command(
    epilog=example(
        'boothline generate "a photo of sks bear on grass" --model boothline-teddy-bear@champion',
        'boothline generate "a photo of sks bear in snow" --image photo.png --mask sky.png',
    )
)
def generate(  # noqa: PLR0913  (every argument is an option of the command)
    prompt: Annotated[
        str | None, typer.Argument(help="What the pictures show.", show_default=False)
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="File of prompts: .txt, .csv or .jsonl.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="Picture to start from (image-to-image).")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", help="What to paint anew in --image, in white; the rest is kept."),
    ] = None,
    strength: Strength = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME[@VERSION]",
            help="Model and version, champion by default; the last run's model by default.",
        ),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Folder for the pictures.")
    ] = Path("pictures"),
    num_images: Annotated[
        int, typer.Option("--images", min=1, max=1000, help="Pictures per prompt.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 0,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Write sheet.png with all pictures too.")
    ] = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make pictures with a registered model, from noise or from a picture."""
    from boothline.launch.generating import make_pictures
    from boothline.launch.local.folder import existing_folder
    from boothline.launch.local.session import home_folder, open_session

    rows = _with_edit(_rows(prompt, prompts), image=image, mask=mask, strength=strength)
    if model is None:
        model = existing_folder(home_folder(home), None).read_config().model_name
    name, _, version = model.partition("@")
    what = f"Making {len(rows) * num_images} pictures with {name}"
    with console(stderr=True).status(what) as status:
        made = make_pictures(
            open_session(home),
            rows,
            model=(name, version or "champion"),
            folder=output_dir,
            num_images=num_images,
            seed=seed,
            sheet=sheet,
            on_progress=lambda done, total: status.update(f"{what}: {done} of {total}"),
        )
    say_lines(console(stderr=True), made.remarks)
    lines = [*made.pictures, *([made.sheet] if made.sheet else [])]
    emit(made, output, lambda target: say_lines(target, lines))


def _rows(prompt: str | None, prompts: Path | None) -> "list[PromptRow]":
    """Return the rows of the prompt or of the prompt file, of which one must be given."""
    from boothline.pictures.prompts import PromptRow, read_prompts

    if (prompt is None) == (prompts is None):
        raise ConfigError(
            "Give either a prompt or --prompts FILE.",
            remedy='For example: boothline generate "a photo of sks bear on the moon".',
        )
    return [PromptRow(prompt=prompt)] if prompt is not None else read_prompts(Path(str(prompts)))


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
