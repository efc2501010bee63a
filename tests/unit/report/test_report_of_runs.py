"""The report of runs in every state."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from integration.report.synthetic_run import NASTY, RUN_ID, SyntheticRun
from PIL import Image

from boothline.config import RunConfig
from boothline.metering import Usage
from boothline.report import RunNotFoundError, collect, render_run
from boothline.report.pictures import MAX_PICTURES
from boothline.runs import Failure, read_run, write_run
from boothline.store import ManifestDraft, Store


@pytest.fixture
def run(store: Store) -> SyntheticRun:
    """A run of which nothing is committed yet."""
    return SyntheticRun(store)


@pytest.mark.proves("F14/sheet")
def test_report_of_a_promoted_run_shows_every_part(run: SyntheticRun) -> None:
    run_id = run.complete()

    report = collect(run.store, run_id)

    assert report.notices == ()
    assert report.verdict.word == "Promoted"
    assert [rule.passed for rule in report.verdict.rules] == [True, True, True]
    assert [metric.key for metric in report.metrics] == [
        "score",
        "dino",
        "clip_i",
        "clip_t",
        "div",
        "pres",
    ]
    assert [row.key for row in report.metrics[0].contenders] == ["finetuned", "base"]
    assert [row.key for row in report.metrics[1].contenders] == ["finetuned", "base", "real"]
    assert len(report.subject.pictures.pictures) == 5
    assert (
        "bear-0.jpg, 640\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}480"
        in report.subject.pictures.pictures[0].caption
    )
    assert report.subject.class_pictures.total == 16
    assert [item.source for item in report.subject.quarantined] == ["blurred.jpg", f"{NASTY}.jpg"]
    assert report.subject.quarantined[0].thumbnail is not None
    assert report.subject.quarantined[1].thumbnail is None
    assert [[name for name, _ in row.columns] for row in report.comparisons.rows] == [
        ["Fine-tuned", "Base"]
    ] * 4
    assert report.batch.total == 8
    assert len(report.training.curve) == 120 + 3
    assert [point.step for point in report.training.validation] == [40, 80, 120]
    assert report.training.validation[1].values["score"] == 0.45
    assert ("State chosen", "after step 80, the best score") in report.training.facts
    assert [sheet.caption for sheet in report.training.sheets.pictures] == [
        "After step 0",
        "After step 40",
        "After step 80",
        "After step 120",
    ]
    assert [step.label for step in report.steps if step.reused] == ["generate_prior-0"]
    assert report.seconds == pytest.approx(sum(step.seconds for step in report.steps))


@pytest.mark.parametrize(
    ("num_own", "num_sampled", "words"),
    [
        (3, 8, "The class: 11 pictures of a bear, 3 of your own, the others made by the base"),
        (3, 0, "The class: 3 pictures of a bear, all of your own"),
        (0, 8, "The class: 8 pictures of a bear, made by the base model"),
    ],
)
def test_report_says_which_class_pictures_are_ones_own(
    store: Store, num_own: int, num_sampled: int, words: str
) -> None:
    run = SyntheticRun(store, num_class_pictures=num_sampled, num_own_class_pictures=num_own)
    run_id = run.complete()
    report = collect(store, run_id)
    alts = [picture.alt for picture in report.subject.class_pictures.pictures]
    assert alts.count("Class picture of your own: a bear") == num_own
    assert len(alts) == num_own + num_sampled
    assert words in render_run(store, run_id)


class Shown(HTMLParser):
    """What a page shows: pictures by their section, plots by their label, all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.section = ""
        self.pictures: dict[str, list[bytes]] = {}
        self.plots: dict[str, list[str]] = {}
        self.marks: dict[str, int] = {}
        self.text: dict[str, str] = {}
        self._plot = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag in ("section", "header") and found.get("id", tag) != self.section:
            self.section = found.get("id", tag)
        if tag == "img":
            data = base64.b64decode(found["src"].partition("base64,")[2])
            self.pictures.setdefault(self.section, []).append(data)
        if tag == "svg" and "aria-label" in found:
            self._plot = found["aria-label"]
            self.plots.setdefault(self.section, []).append(self._plot)
        if tag in ("polyline", "path", "circle", "line") and self._plot:
            self.marks[self._plot] = self.marks.get(self._plot, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "svg":
            self._plot = ""

    def handle_data(self, data: str) -> None:
        self.text[self.section] = self.text.get(self.section, "") + " " + data.strip()


@pytest.mark.proves("F40/report")
def test_report_page_of_an_evaluated_run_shows_its_pictures_plots_and_verdict(
    run: SyntheticRun,
) -> None:
    shown = Shown(render_run(run.store, run.complete()))

    everything = " ".join(shown.text.values())
    assert "Promoted" in everything
    for rule in collect(run.store, RUN_ID).verdict.rules:
        assert rule.text in everything
    pictures = [Image.open(io.BytesIO(data)) for data in shown.pictures["prompts"]]
    assert len(pictures) == 2 * 4 * len(run.prompts)  # fine-tuned and base, four of each prompt
    assert all(picture.convert("RGB").getcolors(1) is None for picture in pictures)
    assert len(shown.pictures["subject"]) >= 5
    scores, curves = shown.plots["scores"], shown.plots["training"]
    # DINO, CLIP-I, CLIP-T, PRES, DIV and the blend of the first and third
    assert {label.partition(":")[0] for label in scores} >= {
        "Subject fidelity (DINO)",
        "Subject fidelity (CLIP-I)",
        "Prompt fidelity (CLIP-T)",
        "Prior preservation (PRES)",
        "Diversity (DIV)",
        "Overall score",
    }
    assert any("loss" in label.lower() for label in curves)
    assert all(shown.marks[label] > 0 for label in (*scores, *curves))


def test_report_lineage_reaches_inputs_that_no_step_returned(run: SyntheticRun) -> None:
    run_id = run.complete()

    lineage = collect(run.store, run_id).lineage.nodes

    assert [node.kind for node in lineage].count("training_state") == 1
    assert lineage[-1].kind == "dataset"
    assert all(link.known for node in lineage for link in node.inputs)
    assert {node.digest for node in lineage} >= {ref.digest for ref in run.refs.values()}


def test_report_lineage_of_many_parts_keeps_every_result(run: SyntheticRun) -> None:
    parts = tuple(
        run.store.commit(
            f"evaluations/{n}", ManifestDraft(kind="evaluation_images", files={}, metadata={"n": n})
        )
        for n in range(70)
    )
    run.validate()
    run.prior()
    run.train()
    run.step(
        "evaluate",
        ManifestDraft(kind="evaluation", files={}, inputs=(*parts, run.refs["train"])),
        seconds=1,
    )
    run_id = run.record("failed")

    lineage = collect(run.store, run_id).lineage

    kinds = {node.kind for node in lineage.nodes if not node.is_part}
    assert kinds == {"dataset", "prior", "training", "training_state", "evaluation"}
    assert (len(lineage.nodes), lineage.num_left_out) == (60, 70 + 6 - 60)


def test_report_puts_the_champion_between_fine_tuned_and_base(store: Store) -> None:
    run = SyntheticRun(store, champion=True, verdict="refused")
    run_id = run.complete()

    report = collect(store, run_id)

    assert report.verdict.word == "Refused"
    assert [name for name, _ in report.comparisons.rows[0].columns] == [
        "Fine-tuned",
        "Champion",
        "Base",
    ]
    twins = {gallery.pictures[0].twin for _, gallery in report.comparisons.rows[0].columns}
    assert twins == {"p0-s0"}


def test_report_of_a_failed_run_says_how_to_go_on(run: SyntheticRun) -> None:
    run.validate()
    failure = Failure(type="StoreError", message="The store is full.", remedy="Free some space.")
    run.step("generate_prior", None, seconds=3, shard=1, status="failed", failure=failure)
    run_id = run.record("failed")

    html = render_run(run.store, run_id)

    assert "Step generate_prior-1 failed" in html
    assert "The store is full." in html
    assert "Free some space." in html
    assert f"boothline resume {run_id}" in html
    assert 'id="scores"' not in html


def test_report_of_a_run_without_steps_is_written(run: SyntheticRun) -> None:
    run_id = run.record("running")

    assert "is still running" in render_run(run.store, run_id)


def test_report_names_a_result_that_is_gone(run: SyntheticRun) -> None:
    run_id = run.complete()
    run.store.forget(run.refs["evaluate"].path)

    report = collect(run.store, run_id)

    assert any(notice.startswith("The result of evaluate") for notice in report.notices)
    assert report.metrics == ()
    assert report.batch.pictures


def test_report_names_broken_content_and_shows_the_rest(run: SyntheticRun) -> None:
    run.validate()
    files = {"images/000000.png": b"no picture", "images/000001.png": run.draw(1, 0.1)}
    run.step("generate_prior", ManifestDraft(kind="prior", files=files), seconds=1, shard=0)
    run.step(
        "train", ManifestDraft(kind="training", files={"curve.jsonl": b"{not json\n"}), seconds=1
    )
    run.step(
        "evaluate",
        ManifestDraft(kind="evaluation", files={}, metadata={"metrics": "none"}),
        seconds=1,
    )
    run_id = run.record("failed")

    report = collect(run.store, run_id)

    assert [notice.partition(" could not")[0] for notice in sorted(report.notices)] == [
        "Picture images/000000.png",
        "The evaluation",
        "The loss curve",
    ]
    assert len(report.subject.class_pictures.pictures) == 1


def test_report_with_an_older_configuration_is_written(run: SyntheticRun) -> None:
    run_id = run.complete()
    record = read_run(run.store, run_id)
    write_run(run.store, record.model_copy(update={"config": {"former": {"setting": 1}}}))

    html = render_run(run.store, run_id)

    assert "The configuration could not be read" in html
    assert "former.setting" in html


def test_report_of_a_large_run_stays_small_and_says_so(store: Store) -> None:
    prompts = [f"a {{subject}} in place {number}" for number in range(40)]
    run = SyntheticRun(
        store, prompts=prompts, images_per_prompt=2, num_class_pictures=60, champion=True
    )
    run_id = run.complete()

    report = collect(store, run_id)
    html = render_run(store, run_id)

    assert len(report.comparisons.rows) == 32
    assert report.comparisons.images_shown == 1
    assert "Shown: 32 of 40 prompts, 1 of 2 pictures each" in html
    assert "24 of 60 pictures shown; 36 left out" in html
    assert len(set(re.findall(r'src="(data:image/[^"]+)"', html))) <= MAX_PICTURES


def test_report_lists_settings_that_differ_from_defaults(run: SyntheticRun) -> None:
    run_id = run.complete()

    changed = collect(run.store, run_id).changed_settings

    default = str(RunConfig().training.num_steps)
    assert ("training.num_steps", "120", default) in changed
    assert "training.learning_rate" not in [name for name, _, _ in changed]


def test_report_of_an_unknown_run_is_an_error(store: Store) -> None:
    with pytest.raises(RunNotFoundError, match=RUN_ID):
        render_run(store, RUN_ID)


def test_report_pairs_generated_pictures_with_the_nearest_training_pictures(
    run: SyntheticRun,
) -> None:
    run_id = run.complete()

    report = collect(run.store, run_id)

    copies = report.copies
    assert [pair.cosine for pair in copies.pairs] == [0.93, 0.92, 0.91, 0.9, 0.89, 0.88]
    assert [pair.is_near_copy for pair in copies.pairs] == [True] * 3 + [False] * 3
    assert all(pair.generated.twin == pair.real.twin != "" for pair in copies.pairs)
    assert not any("training picture" in sentence for sentence in report.verdict.sentences)
    html = render_run(run.store, run_id)
    assert "3 of 16 generated pictures are nearer" in html
    assert 'class="alarm"' not in html


def test_report_warns_of_a_model_that_copies(store: Store) -> None:
    copies = {"bound": 0.9, "num_images": 16, "num_near_copies": 12, "warning": True}
    run = SyntheticRun(store, copies=copies)
    run_id = run.complete()

    report = collect(store, run_id)

    assert report.verdict.sentences[-1].startswith("12 of 16 generated pictures are nearer")
    assert 'class="alarm"' in render_run(store, run_id)


def test_report_of_an_evaluation_without_signs_of_copying_leaves_them_out(store: Store) -> None:
    run = SyntheticRun(store, copies={})

    html = render_run(store, run.complete())

    assert 'id="copies"' not in html


@pytest.mark.proves("F49/report")
def test_report_cost_counts_what_the_steps_took_and_what_a_unit_took(run: SyntheticRun) -> None:
    run_id = run.complete()

    cost = collect(run.store, run_id).cost

    lines = {line.label: line for line in cost.lines}
    assert lines["train"].gpu_seconds == pytest.approx(98.3)
    assert lines["train"].per == (
        "optimizer step",
        pytest.approx(12.5 / 120),
        pytest.approx(98.3 / 120),
        pytest.approx(5420 / 120),
    )
    assert lines["batch_infer-0"].per[:2] == ("picture", pytest.approx(12.5 / 4))
    assert lines["evaluate"].per[0] == "picture judged"
    assert lines["validate_data"].gpu_seconds is None
    assert lines["generate_prior-0"].per is None
    assert lines["train"].joules == 5420.0
    assert cost.cpu_seconds == pytest.approx(12.5 * len(cost.lines))
    assert "RAPL" in cost.energy
    assert "NVML" in cost.energy
    html = render_run(run.store, run_id)
    assert "optimizer step: 0.104 s CPU, 0.819 s GPU, 45 J" in html
    assert "1.51 Wh" in html


def test_report_cost_says_what_was_not_measured(store: Store) -> None:
    run = SyntheticRun(store, usage=Usage(cpu_seconds=1.0))
    html = render_run(store, run.complete())

    assert "Energy was not measured" in html
    assert collect(store, run.complete()).cost.gpu_seconds is None


def test_report_of_steps_without_usage_is_written(store: Store) -> None:
    run = SyntheticRun(store, usage=None)

    cost = collect(store, run.complete()).cost

    assert {line.cpu_seconds for line in cost.lines} == {None}
    assert cost.cpu_seconds is None


def test_report_published_figures_are_shares_of_the_real_pictures_own(run: SyntheticRun) -> None:
    report = collect(run.store, run.complete())

    dino, clip_i = report.published
    shares = {row.name: row.estimate.mean for row in dino.contenders}
    assert shares["Fine-tuned"] == pytest.approx(0.712 / 0.803)
    assert shares["DreamBooth, SD"] == pytest.approx(0.668 / 0.774)
    assert [row.key for row in clip_i.contenders] == ["finetuned", "base"] + ["paper"] * 3
    assert not report.same_encoders
