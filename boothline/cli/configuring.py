"""Commands on configurations and pipelines: init, validate, compile."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.naming import subject_name
from boothline.cli.options import (
    Configs,
    DeploymentChoice,
    Home,
    Output,
    OutputOption,
    Overrides,
    Subject,
    example,
)
from boothline.cli.printing import emit, say, say_lines, say_table
from boothline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import Console

    from boothline.config import RunConfig
    from boothline.data.report import DatasetReport

app = typer.Typer()
DEFAULT_FILE = Path("run.yaml")
BaseModelOption = Annotated[
    str | None,
    typer.Option(
        "--base-model",
        metavar="SOURCE",
        help="Model to start from: a diffusers folder, base:NAME or <hub id>@<commit>; family, "
        "resolution, method and rates follow from it.",
        show_default=False,
    ),
]
EncodersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoders",
        metavar="SOURCE",
        help="With a real base, twice: the DINO and the CLIP model that judge its pictures.",
        show_default=False,
    ),
]


def load_config(
    files: Sequence[Path] | None,
    overrides: Sequence[str] | None,
    subject: Path | None,
    *,
    needs_subject: bool = True,
) -> "RunConfig":
    """Return the configuration that the command line asks for.

    Args:
        files: YAML files, or the folder of the pictures; none: ./run.yaml, unless the pictures are
            named.
        overrides: settings that override them.
        subject: folder of the pictures, which names the subject, too.
        needs_subject: whether pictures and class noun must be named.

    Raises:
        ConfigError: no configuration is named and there is no ./run.yaml, or it is wrong; or two
            folders of pictures are named.
    """
    from boothline.config.fields import REQUIRED
    from boothline.config.loading import resolve

    chosen, subject = _files_and_folder(files or (), subject)
    if not chosen and subject is None:
        if not DEFAULT_FILE.is_file():
            raise ConfigError(
                "No configuration is named and there is no run.yaml here.",
                remedy="Name a YAML file, pass --subject FOLDER, or write one: "
                "boothline init FOLDER --class-noun NOUN.",
            )
        chosen = [DEFAULT_FILE]
    settings = list(overrides or [])
    if subject is not None:
        settings = [
            # Those of a file would hold in the place of this one.
            "subjects=[]",
            # A path has lost the second slash of an s3:// prefix.
            f"subject.images={re.sub(r'^s3:/+', 's3://', str(subject))}",
            f"subject.name={subject_name(subject)}",
            *settings,
        ]
    return resolve(chosen, settings, required=REQUIRED if needs_subject else None)


def _files_and_folder(
    files: Sequence[Path], subject: Path | None
) -> tuple[list[Path], Path | None]:
    """Return the YAML files and the folder of pictures that a command line names.

    Raises:
        ConfigError: more than one folder is named.
    """
    folders = [path for path in files if path.is_dir()]
    if len(folders) + (subject is not None) > 1:
        named = ", ".join(str(path) for path in (*folders, *filter(None, [subject])))
        raise ConfigError(
            f"More than one folder of pictures is named: {named}.",
            remedy="Name one; several subjects are listed under `subjects` in a YAML file.",
        )
    return [path for path in files if path not in folders], next(iter(folders), subject)


@app.command(
    epilog=example(
        "boothline init examples/subjects/teddy-bear --class-noun bear -o run.yaml",
        "boothline init my-pictures --class-noun dog --base-model /models/stable-diffusion-v1-5",
    )
)
def init(  # noqa: PLR0913  (every argument is an option of the command)
    folder: Annotated[Path, typer.Argument(help="Folder of 3 to 5 pictures of one subject.")],
    class_noun: Annotated[
        str | None,
        typer.Option(
            "--class-noun", help="Noun of the subject's class, e.g. bear.", show_default=False
        ),
    ] = None,
    base_model: BaseModelOption = None,
    encoders: EncodersOption = None,
    file: Annotated[Path, typer.Option("--file", "-o", help="File to write.")] = DEFAULT_FILE,
    all_settings: Annotated[
        bool, typer.Option("--all", help="Show every setting, with its meaning.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write a run.yaml for a folder of pictures, with settings that fit the base model."""
    from boothline.config.loading import annotated_yaml, resolve, short_yaml
    from boothline.launch.local.prechecks import check_pictures
    from boothline.launch.validating import check_readable

    if class_noun is None:
        raise ConfigError(
            "What is the subject? Its class noun is missing.",
            remedy=f"Name it: boothline init {folder} --class-noun NOUN, such as dog, bear or mug.",
        )
    if file.exists() and not force:
        raise ConfigError(
            f"{file} exists already.", remedy="Pass --force to replace it, or -o OTHER.yaml."
        )
    values: dict[str, object] = {
        "subject.name": subject_name(folder),
        "subject.images": str(folder),
        "subject.class_noun": class_noun,
    }
    if base_model is not None:
        values |= _fitting(base_model, encoders, home=home)
    config = resolve([], [f"{name}={_written(value)}" for name, value in values.items()])
    check_pictures(config.subject.images)
    report = check_readable(config)
    values["subject.images"] = _seen_from(file.parent, folder)
    text = annotated_yaml if all_settings else short_yaml
    file.write_text(text(config, values=values), encoding="utf-8")
    said = [f"{report.left_out()}."] if report.quarantined else []
    emit(
        {"file": str(file)},
        output,
        lambda target: say_lines(target, [*said, f"Wrote {file}. Next: boothline validate {file}"]),
    )


def _fitting(source: str, encoders: list[str] | None, *, home: Path | None) -> dict[str, object]:
    """Return the settings that fit a base model.

    Raises:
        ConfigError: there are not two encoders, or the base does not exist.
        DataError: the base is not a model that can be loaded.
    """
    from boothline.diffusion.base_model import checked_family, resolve
    from boothline.diffusion.presets import CLIP, DINO, fitting_values, native_px_of
    from boothline.launch.local.session import home_folder, settings_for

    if encoders is not None and len(encoders) != 2:
        raise ConfigError(
            "--encoders names two models.", remedy="Give it twice: first DINO, then CLIP."
        )
    settings = settings_for([source], home_folder(home))
    is_on_hub = "@" in source and not Path(source).exists()
    base = resolve(source, settings=settings, allow_hub=is_on_hub, need="settings")
    family = checked_family(base)
    named = str(Path(source).resolve()) if Path(source).exists() else source
    dino, clip = encoders or (DINO, CLIP)
    values = fitting_values(family, named, native_px_of(base.path, family), dino=dino, clip=clip)
    return values | ({"base_model.allow_hub": True} if is_on_hub else {})


def _written(value: object) -> str:
    """Return a value as it is written after --set."""
    from boothline.config.fields import as_yaml

    return value if isinstance(value, str) else as_yaml(value)


def _seen_from(place: Path, folder: Path) -> str:
    """Return the path of the pictures as it counts from the file's folder."""
    if folder.is_absolute() or place.resolve() == Path.cwd():
        return str(folder)
    return os.path.relpath(folder.resolve(), place.resolve())


@app.command(
    epilog=example(
        "boothline validate run.yaml --set training.num_steps=200",
        "boothline validate my-pictures --set subject.class_noun=dog --report pictures.html",
    )
)
def validate(
    configs: Configs = None,
    overrides: Overrides = None,
    subject: Subject = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html",
            help="Write the findings as a page with thumbnails.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit with code 3 on a warning or a picture left out."),
    ] = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check a configuration and its pictures without running anything."""
    from boothline.launch.local.prechecks import check
    from boothline.launch.local.session import home_folder
    from boothline.launch.validating import examine_pictures

    if page is not None and not page.absolute().parent.is_dir():
        raise ConfigError(
            f"{page} cannot be written: {page.absolute().parent} is not a folder.",
            remedy="Name a file in a folder that exists.",
        )
    config = load_config(configs, overrides, subject)
    check(config, home=home_folder(home))
    reports = {
        name: examine_pictures(one, home=home_folder(home), page=_page_of(page, name))
        for name, one in config.by_subject.items()
    }
    whole = reports.get("") or {name: one.model_dump(mode="json") for name, one in reports.items()}
    emit(whole, output, lambda target: _say_all(target, reports))
    for name, report in reports.items():
        report.ensure_usable(config.by_subject[name].subject)
        if strict and (report.warnings or report.quarantined):
            raise DataError(
                f"Not all is well: {report.verdict()}", remedy="--strict asks for that."
            )


def _page_of(page: Path | None, subject: str) -> Path | None:
    """Return the file of the page on one of several subjects: FILE-<name>.html."""
    return page.with_stem(f"{page.stem}-{subject}") if page is not None and subject else page


def _say_all(target: "Console", reports: Mapping[str, "DatasetReport"]) -> None:
    """Print what was found in the pictures of each subject."""
    for name, report in reports.items():
        if name:
            say(target, name, style="bold")
        _say_findings(target, report)


def _say_findings(target: "Console", report: "DatasetReport") -> None:
    """Print what the examination of the pictures found."""
    rows = [(item.source, "used", item.caption) for item in report.accepted]
    rows += [
        (item.source, "left out", f"{item.reason}. {item.advice}") for item in report.quarantined
    ]
    rows += [
        (item.source or "all", f"warning: {item.check}", f"{item.message}. {item.advice}")
        for item in report.warnings
    ]
    rows += [
        (item.source or "all", f"note: {item.check}", f"{item.message}.") for item in report.remarks
    ]
    say_table(target, ("Picture", "Finding", "What"), rows)
    if left_out := report.left_out():
        say(target, f"{left_out}.")
    say(target, report.verdict(), style="bold")


def deployed(deployment: Path, pipeline: str) -> str:
    """Return a pipeline's YAML with the settings of a deployment file in it."""
    from boothline.launch.cluster.deployment import Deployment
    from boothline.launch.cluster.runs import compile_for

    return compile_for(Deployment.load(deployment), pipeline=pipeline)


@app.command("compile", epilog=example("boothline compile -o dreambooth.yaml"))
def compile_pipeline(
    file: Annotated[
        Path | None, typer.Option("--file", "-o", help="File to write; stdout by default.")
    ] = None,
    pipeline: Annotated[
        str, typer.Option("--pipeline", help="dreambooth, sweep or retrain.")
    ] = "dreambooth",
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--image", metavar="NAME=IMAGE", help="Image to use for tools or torch; repeatable."
        ),
    ] = None,
    deployment: DeploymentChoice = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Compile a pipeline to the YAML that Kubeflow Pipelines runs."""
    from boothline.launch.compile import compiled, image_choices, pipeline_named

    if deployment is not None:
        if images:
            raise ConfigError(
                "--image and --deployment both name images.",
                remedy="Name them under `images` in the deployment file.",
            )
        text = deployed(deployment, pipeline)
    else:
        text = compiled(pipeline_named(pipeline), images=image_choices(images or []))
    if file is not None:
        file.write_text(text, encoding="utf-8")
        emit({"file": str(file)}, output, lambda target: say(target, f"Wrote {file}."))
    else:
        emit({"yaml": text}, output, lambda target: target.out(text, highlight=False))
