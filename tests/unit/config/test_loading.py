"""Loading configuration: merging, overrides, and what wrong settings are told."""

from pathlib import Path

import pytest
import yaml

from boothline.config import RunConfig
from boothline.config.fields import REQUIRED, as_yaml
from boothline.config.loading import SETTINGS, annotated_yaml, digest, resolve, short_yaml
from boothline.errors import ConfigError


def file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def message(*files: Path, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(files, overrides)
    return str(caught.value)


def test_resolve_of_nothing_gives_the_defaults() -> None:
    assert resolve([]) == RunConfig()


@pytest.mark.proves("F06/merged")
def test_resolve_merges_files_left_to_right_then_overrides(tmp_path: Path) -> None:
    first = file(tmp_path, "a.yaml", "training: {num_steps: 10, seed: 1}\nsubject: {name: bear}\n")
    second = file(tmp_path, "b.yaml", "training: {num_steps: 20}\nprior:\n")
    config = resolve([first, second], ["training.seed=3"])
    assert (config.training.num_steps, config.training.seed) == (20, 3)
    assert config.subject.name == "bear"
    assert config.prior == RunConfig().prior


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.learning_rate=2e-6", 2e-6),
        ("training.ema_decay=null", None),
        ("training.horizontal_flip=true", True),
        ("subject.identifier=123", "123"),
        ("subject.class_noun=no", "no"),
        ("subject.prompt={subject}: a toy", "{subject}: a toy"),
        ("inference.prompts_file=null", None),
        ("inference.prompts_file=a=b.txt", "a=b.txt"),
        ("prior.sampling.seed=5", 5),
        ('prior.prompts=["one", "two"]', ("one", "two")),
    ],
)
def test_resolve_reads_an_override_as_its_setting_wants_it(override: str, expected: object) -> None:
    value: object = resolve([], [override])
    for key in override.partition("=")[0].split("."):
        value = getattr(value, key)
    assert value == expected


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("training.learning_rte", "training.learning_rate"),
        ("learning_rate", "training.learning_rate"),
        ("subject.imagess", "subject.images"),
        ("training.rank", "training.lora.rank"),
        ("promotion.min_subject_gain", "promotion.margins.min_subject_gain"),
    ],
)
def test_resolve_of_unknown_setting_names_it_its_file_and_the_nearest(
    tmp_path: Path, name: str, nearest: str
) -> None:
    value: object = 1
    for key in reversed(name.split(".")):
        value = {key: value}
    path = file(tmp_path, "run.yaml", yaml.safe_dump(value))
    assert message(path).startswith(f"Unknown setting '{name}' ({path}). Did you mean '{nearest}'?")


def test_resolve_of_unknown_section_names_the_nearest(tmp_path: Path) -> None:
    path = file(tmp_path, "run.yaml", "trainning: {num_steps: 3}\n")
    assert f"Unknown section 'trainning' ({path}). Did you mean 'training'?" in message(path)


def test_resolve_out_of_range_names_setting_bounds_value_and_source(tmp_path: Path) -> None:
    path = file(tmp_path, "run.yaml", "training:\n  batch_size: 0\n")
    expected = "training.batch_size must be a whole number, at least 1, at most 1,024; got 0"
    assert message(path).startswith(f"{expected} ({path}).")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        (
            "training.num_steps=many",
            'must be a whole number, at least 1, at most 1,000,000; got "m',
        ),
        ("training.learning_rate=5", "must be a number, above 0, at most 1; got 5"),
        ("training.precision=fp8", 'must be a choice, one of fp32, bf16, fp16; got "fp8"'),
        ("training.accumulation=3", "set training.batch_size to a multiple of 3"),
        ("subject.resolution_px=60", "a multiple of 8; got 60"),
        ("subject.name=A b", "matching `^[a-z0-9]"),
        ("subject.prompt=a toy", "subject.prompt must contain {subject}, got 'a toy'"),
        ("training=5", "training must hold settings, got 5"),
        (
            'evaluation.prompts=["a {subject}", 5]',
            "evaluation.prompts.1 must be text; put it in quo",
        ),
        ("prior.num_shards=40", "set prior.num_shards to 32 or less"),
        ("prior.num_images=[1", "--set prior.num_images, line 1: expected"),
        ("foo", "--set 'foo' is not of the form name=value. For example --set"),
        ("=3", "is not of the form name=value"),
    ],
)
def test_resolve_of_wrong_override_says_what_is_wanted(override: str, part: str) -> None:
    assert part in message(overrides=(override,))


def test_resolve_names_all_wrong_settings_at_once(tmp_path: Path) -> None:
    path = file(tmp_path, "run.yaml", "subject: {name: 123}\nprior: {weight: -1, wieght: 2}\n")
    text = message(path, overrides=("training.num_steps=0",))
    assert text.startswith("4 settings are wrong:\n")
    assert '  - subject.name must be text; put it in quotes: "123"; got 123' in text
    assert f"  - Unknown setting 'prior.wieght' ({path}). Did you mean 'prior.weight'?" in text
    assert "  - prior.weight must be a number, at least 0, at most 100; got -1" in text
    assert "got 0 (--set training.num_steps=0)" in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [1\n", "line 2: expected ',' or ']'"),
        ("prior:\n  weight: 1\n  weight: 2\n", "line 3: the key 'weight' occurs twice"),
        ("1: 2\n", "line 1: the key 1 is not text"),
        ("- 1\n", "holds a list instead of settings"),
        ("just text\n", "holds a text instead of settings"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1: could not determine a constructor"),
    ],
)
def test_resolve_of_file_that_is_no_settings_names_the_line(
    tmp_path: Path, text: str, part: str
) -> None:
    path = file(tmp_path, "run.yaml", text)
    assert str(path) in message(path)
    assert part in message(path)


def test_resolve_of_missing_file_names_it(tmp_path: Path) -> None:
    text = message(tmp_path / "nope.yaml")
    assert f"{tmp_path / 'nope.yaml'} cannot be read: No such file" in text


def test_resolve_of_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    assert "it is not UTF-8 text" in message(tmp_path / "run.yaml")


def test_resolve_of_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert resolve([file(tmp_path, "run.yaml", "# nothing\n")]) == RunConfig()


def test_paths_in_a_file_count_from_its_folder_and_models_only_where_they_are_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "base").mkdir()
    text = (
        "subject: {images: pics}\nbase_model: {source: base}\nevaluation: {clip_model: org/clip}\n"
    )
    path = file(tmp_path, "run.yaml", f"{text}inference: {{prompts_file: s3://bucket/p.txt}}\n")
    config = resolve([path], ["evaluation.dino_model=dino"])
    assert config.subject.images == str(tmp_path / "pics")
    assert config.base_model.source == str(tmp_path / "base")
    assert config.evaluation.clip_model == "org/clip"
    assert config.evaluation.dino_model == "dino"
    assert config.inference.prompts_file == "s3://bucket/p.txt"


def test_short_yaml_loads_to_the_given_values_and_comments_load_too(tmp_path: Path) -> None:
    values: dict[str, object] = {"subject.images": "/pics", "evaluation.sampling.batch_size": 4}
    text = short_yaml(RunConfig(), values=values)
    found = resolve([file(tmp_path, "run.yaml", text)])
    assert found == resolve([], ["subject.images=/pics", "evaluation.sampling.batch_size=4"])
    opened = "\n".join(line.replace("# ", "", 1) for line in text.splitlines()[2:])
    assert resolve([file(tmp_path, "all.yaml", opened)]) == found


def test_required_settings_that_nothing_names_are_told_with_the_wrong_ones(tmp_path: Path) -> None:
    path = file(tmp_path, "run.yaml", "training: {num_steps: 0}\n")
    with pytest.raises(ConfigError) as caught:
        resolve([path], ["subject.images=/pics"], required=REQUIRED)
    assert "2 settings are wrong" in str(caught.value)
    assert "subject.class_noun is not set; name its class" in str(caught.value)
    assert "subject.images" not in str(caught.value)


def test_resolve_of_an_unknown_choice_names_the_nearest() -> None:
    said = message(overrides=("inference.sampling.sampler=eular",))
    assert "Did you mean 'euler'?" in said
    assert "Did you mean" not in message(overrides=("inference.sampling.sampler=nothing",))


def test_digest_depends_on_settings_alone(tmp_path: Path) -> None:
    path = file(tmp_path, "run.yaml", "training:\n  num_steps: 150\n")
    assert digest(resolve([path])) == digest(RunConfig())
    assert digest(resolve([], ["training.num_steps=151"])) != digest(RunConfig())


def test_annotated_yaml_loads_to_the_given_values(tmp_path: Path) -> None:
    values = {
        "subject.name": "my-bear",
        "subject.images": str(tmp_path / "pics: new"),
        "training.learning_rate": 1e-5,
    }
    path = file(tmp_path, "run.yaml", annotated_yaml(RunConfig(), values=values))
    config = resolve([path])
    values["subject.images"] = str(tmp_path / "pics: new")  # a path counts from its file's folder
    assert config == resolve([], [f"{name}={value}" for name, value in values.items()])


def test_annotated_yaml_with_every_comment_taken_away_is_the_configuration(tmp_path: Path) -> None:
    pictures = "subject.images=/pictures"
    config = resolve([], ["training.num_steps=77", "training.learning_rate=1e-5", pictures])
    lines = annotated_yaml(config, values={}).splitlines()
    active = [
        line.replace("# ", "", 1) if ": " in line and "## " not in line else line
        for line in lines[2:]
    ]
    path = file(
        tmp_path,
        "run.yaml",
        "\n".join(line for line in active if not line.lstrip().startswith("#")),
    )
    assert resolve([path]) == config


def test_annotated_yaml_explains_every_setting() -> None:
    text = " ".join(annotated_yaml(RunConfig(), values={}).replace("## ", "").split())
    missing = [s.name for s in SETTINGS.values() if s.description not in text or not s.description]
    assert missing == []
    assert max(map(len, annotated_yaml(RunConfig(), values={}).splitlines()[:30])) <= 100


def test_annotated_yaml_of_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'subject.nmae' is not a setting. Did you mean"):
        annotated_yaml(RunConfig(), values={"subject.nmae": "x"})


@pytest.mark.parametrize(
    "value", [1e-5, 2.5e-6, 1e20, 0.1, 3.0, 7, True, None, "yes", "a: b", ["x"]]
)
def test_as_yaml_is_read_back_as_the_same_value(value: object) -> None:
    read = yaml.safe_load(as_yaml(value))
    assert (read, type(read)) == (value, type(value))
