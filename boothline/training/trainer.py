"""`Trainer`: the loop. Steps, reports, sample sheets, training states, and a clean end."""

import json
import logging
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from boothline.errors import BoothlineError, InterruptedRunError
from boothline.store import ManifestRef
from boothline.training.assembly import assemble, assemble_validator
from boothline.training.denoiser import Surroundings
from boothline.training.job import (
    CURVE_FILE,
    EVENTS_FILE,
    INPUTS_FILE,
    SAMPLES_FOLDER,
    VALIDATION_FILE,
    TrainingJob,
)
from boothline.training.optimizing import WeightAverage, build_optimizer
from boothline.training.pictures import Picture, read_pictures
from boothline.training.ranks import Ranks, Requests
from boothline.training.reporting import EventLog, Exchange, StepReport, peak_memory_bytes
from boothline.training.sharding import prepared
from boothline.training.sheets import MAX_PICTURES, SheetMaker, is_due
from boothline.training.state_store import StateStore
from boothline.training.states import TrainedParts
from boothline.training.stepping import Stepper

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished training leaves.

    Attributes:
        final_state: the last training state, or the best where that is chosen; known to rank 0
            alone.
        num_parameters_trained: trained numbers.
        chosen_step: steps behind that state.
        last_step: steps taken.
        pass_size: instance pictures that rank 0 took at once; fewer than a micro-batch where the
            memory was short.
    """

    final_state: ManifestRef | None
    num_parameters_trained: int
    chosen_step: int
    last_step: int
    pass_size: int


class Trainer:
    """Trains one job on one rank.

    Args:
        job: what to train.
        accelerator: accelerate's Accelerator: device, precision, DDP.
        ranks: this rank and its peers.
        requests: signals to this rank.
        states: the job's states in the store; None except on the first rank of a machine.
    """

    def __init__(
        self,
        job: TrainingJob,
        *,
        accelerator: Accelerator,
        ranks: Ranks,
        requests: Requests,
        states: StateStore | None,
    ) -> None:
        self._job = job
        self._config = job.config.training
        self._accelerator = accelerator
        self._ranks = ranks
        self._requests = requests
        self._states = states
        images_per_step = self._config.batch_size * (2 if job.has_prior else 1)
        self._events = EventLog(job.folder / EVENTS_FILE, images_per_step=images_per_step)
        self._curve: list[dict[str, float]] = []
        self._done = 0
        self._saved = 0
        self._smallest_pass = job.micro_batch_size
        self._stop = False
        self._save = False
        self._build()

    def _build(self) -> None:
        """Load, encode, and hand the networks to accelerate."""
        self._tell("phase", name="loading the base model and encoding the pictures")
        parts = assemble(self._job, ranks=self._ranks)
        optimizer = build_optimizer(parts.denoiser, self._config)
        model, ready = prepared(self._accelerator, parts.denoiser, optimizer)
        self._stepper = Stepper(
            self._job,
            accelerator=self._accelerator,
            ranks=self._ranks,
            model=model,
            optimizer=ready,
            batches=parts.batches,
            objective=parts.objective,
            on_smaller=self._tell_smaller,
        )
        self._average = None
        names = {
            f"{network}.{name}": parameter
            for network, module in parts.denoiser.networks().items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        if self._config.ema_decay is not None:
            self._average = WeightAverage(names, decay=self._config.ema_decay)
        self._num_trained = sum(weight.numel() for weight in names.values())
        self._trained = TrainedParts(
            denoiser=parts.denoiser,
            optimizer=optimizer,
            average=self._average,
            scaler=self._accelerator.scaler,
        )
        surroundings = Surroundings(
            parts.pipeline,
            folder=self._job.base_model,
            text_encoder_trained=self._config.runs_text_encoder,
        )
        self._sheets = SheetMaker(surroundings, config=self._job.config, ranks=self._ranks)
        self._validator = assemble_validator(
            self._job, parts, num_prompts=len(self._sheets.prompts), ranks=self._ranks
        )
        if self._config.caches:
            surroundings.release()
        self._exchange = Exchange(
            ranks=self._ranks,
            half_size=self._config.batch_size,
            requests=self._requests,
            scaled=self._accelerator.scaler is not None,
        )

    def run(self) -> Outcome:
        """Train from the newest state to the last step.

        Raises:
            NonFiniteLossError: the loss became NaN or infinite; the last state is kept.
            InterruptedRunError: a rank was asked to stop; a state was committed.
            ConfigError: the newest state does not fit the job.
            StoreError: a state could not be committed.
        """
        try:
            first = self._resume()
            self._requests.state_saved()
            self._tell("start", step=first, total=self._config.num_steps)
            if first == 0 and (self._config.sample_every_steps or self._config.sample_early):
                path = self._job.folder / INPUTS_FILE
                self._sheets.show_inputs(path, pictures=self._first_pictures())
                self._tell("inputs", path=str(path))
            if self._ranks.world_size > 2:
                self._stepper.settle_buckets()
            for step in range(first, self._config.num_steps):
                if self._is_exhausted:
                    break
                self._train_step(step)
                self._after_step(step + 1)
            return self._finish()
        except Exception as error:
            self._rescue(error)
            raise
        finally:
            self._requests.answer()
            if self._states is not None:
                self._states.close()

    def _first_pictures(self) -> list[Picture]:
        """Return the first instance pictures of each subject."""
        room = MAX_PICTURES // len(self._job.pictures) or 1
        found = [read_pictures((one.instance,))[:room] for one in self._job.pictures]
        return [picture for pictures in found for picture in pictures]

    def _train_step(self, step: int) -> None:
        """Take optimizer step `step`, counted from 0, and post its losses."""
        self._exchange.begin()
        taken = self._stepper.take(step, average=self._average)
        self._note(self._exchange.collect())
        self._exchange.post(
            step + 1,
            sums=taken.sums,
            grad_norm=taken.grad_norm,
            learning_rate=taken.learning_rate,
        )

    def _tell_smaller(self, step: int, pass_size: int) -> None:
        """Say that the passes of this rank became smaller because memory ran out."""
        self._smallest_pass = pass_size
        logger.warning(
            "rank %d ran out of memory in step %d: it continues with %d pictures of each half at "
            "once instead of %d; batch, order and weights stay the same",
            self._ranks.rank,
            step + 1,
            pass_size,
            self._job.micro_batch_size,
        )
        self._tell("smaller", step=step + 1, pass_size=pass_size)

    def _note(self, report: StepReport | None) -> None:
        """Take in what all ranks know of a step."""
        if report is None:
            return
        self._curve.append(report.row)
        self._stop |= report.stop
        self._save |= report.save
        if self._ranks.is_main:
            self._events.step(report)

    def _after_step(self, done: int) -> None:
        """Make the sheet and the state that are due after `done` steps; stop if asked to."""
        self._done = done
        every = self._job.config.checkpoints.every_steps
        validation_every = self._config.validation.every_steps
        last = done == self._config.num_steps
        stop = self._stop
        state_due = last or stop or self._save or done % every == 0
        validation_due = bool(validation_every) and (last or done % validation_every == 0)
        sheet_due = last or validation_due or is_due(self._config, done)
        if not (state_due or sheet_due):
            return
        self._note(self._exchange.collect())
        if sheet_due:
            state_due |= self._show(done, validate=validation_due)
        if state_due:
            self._save_state(done, ends=last or stop)
        if stop:
            self._stop_here(done)

    def _show(self, done: int, *, validate: bool) -> bool:
        """Sample the fixed prompts with the weights as they are (their average, if kept).

        Args:
            done: optimizer steps taken.
            validate: score the pictures and measure the losses too.

        Returns:
            Whether the validation calls for a training state.
        """
        path = self._job.folder / SAMPLES_FOLDER / f"step-{done:06d}.png"
        best = False
        with self._average.applied() if self._average is not None else nullcontext():
            pictures = self._sheets.make(path)
            if validate and self._validator is not None:
                best = self._validator.measure(done, self._trained.denoiser, pictures)
        self._tell("sheet", step=done, path=str(path))
        if validate and self._validator is not None:
            self._tell("validation", **self._validator.history.rows[-1])
        return (best and self._chooses_best) or self._is_exhausted

    @property
    def _chooses_best(self) -> bool:
        return self._config.validation.choose == "best"

    @property
    def _is_exhausted(self) -> bool:
        """Whether further steps are not worth it."""
        return self._validator is not None and self._validator.history.is_exhausted

    def _save_state(self, done: int, *, ends: bool) -> None:
        """Snapshot the training and commit it in the background (rank 0).

        Args:
            done: optimizer steps taken.
            ends: no step follows, so that nothing has to be copied.
        """
        self._save = False
        self._requests.state_saved()
        if not self._ranks.is_main or self._states is None:
            return
        documents = {CURVE_FILE: _lines(self._curve)}
        for path in sorted((self._job.folder / SAMPLES_FOLDER).glob("*.png")):
            documents[f"{SAMPLES_FOLDER}/{path.name}"] = path.read_bytes()
        keep = None
        if self._validator is not None:
            documents[VALIDATION_FILE] = _lines(self._validator.history.rows)
            keep = self._validator.history.best_step if self._chooses_best else None
        began = time.monotonic()
        self._states.wait()  # the snapshot before this one lies in the same memory
        snapshot = self._trained.snapshot(
            done, job=self._job, documents=documents, goes_on=not ends
        )
        self._states.commit_later(snapshot, keep=keep)
        self._saved = done
        self._tell("state", step=done, seconds=time.monotonic() - began)

    def _stop_here(self, done: int) -> None:
        """Wait until the state has arrived, then end as an interrupted run."""
        self._requests.answer()
        if self._states is not None:
            self._states.wait()
        self._ranks.barrier()
        raise InterruptedRunError(
            f"Training was stopped after step {done} of {self._config.num_steps}; "
            "its state is in the store.",
            remedy="`boothline resume` continues from there.",
        )

    def _rescue(self, error: Exception) -> None:
        """Keep the steps since the last state, where an exception left them whole.

        They are whole where the weights are those of a finished step and its report is there: with
        several ranks, only where all had met since.

        Args:
            error: what ends the training; an expected error says itself what is kept.
        """
        if isinstance(error, BoothlineError) or self._states is None or not self._ranks.is_main:
            return
        try:
            if self._ranks.world_size == 1:
                self._note(self._exchange.collect())
            whole = self._stepper.done == self._done == len(self._curve)
            if whole and self._saved != self._done:
                self._save_state(self._done, ends=False)
                self._states.wait()
        except Exception:  # logged, and never in the place of what ends the training
            logger.exception("the steps since the last training state could not be kept")

    def _finish(self) -> Outcome:
        """Wait for the final state, write the curves, and choose the state to publish."""
        ref = self._states.wait() if self._states is not None else None
        ref = ref or self._resumed
        chosen = self._done
        if self._validator is not None and self._chooses_best:
            chosen = self._validator.history.best_step or self._done
        if self._ranks.is_main and self._states is not None:
            if chosen != self._done:
                ref = self._states.find(chosen)
            (self._job.folder / CURVE_FILE).write_bytes(_lines(self._curve))
            if self._validator is not None:
                rows = self._validator.history.rows
                (self._job.folder / VALIDATION_FILE).write_bytes(_lines(rows))
        self._tell("memory", peak_bytes=peak_memory_bytes(self._ranks.device))
        self._ranks.barrier()
        return Outcome(
            final_state=ref,
            num_parameters_trained=self._num_trained,
            chosen_step=chosen,
            last_step=self._done,
            pass_size=self._smallest_pass,
        )

    def _resume(self) -> int:
        """Take over the newest good state on every rank and return the steps behind it."""
        found = None
        if self._ranks.is_main and self._states is not None:
            found = self._states.newest()
        self._resumed = found.ref if found is not None else None
        step = self._ranks.broadcast(found.step if found is not None else 0)
        if step == 0:
            return 0
        if self._states is not None and not self._ranks.is_main:
            self._states.fetch(step)
        self._ranks.barrier()
        folder = self._job.state_folder(step)
        done = self._done = self._trained.restore(folder, job=self._job)
        self._take_over_documents(folder)
        logger.info("rank %d continues after step %d", self._ranks.rank, done)
        return done

    def _take_over_documents(self, folder: Path) -> None:
        """Continue the curve and the sheets of the state."""
        self._curve = _rows(folder / CURVE_FILE)
        if self._validator is not None:
            self._validator.history.take_over(_rows(folder / VALIDATION_FILE))
        if self._ranks.is_main and (folder / SAMPLES_FOLDER).is_dir():
            shutil.copytree(
                folder / SAMPLES_FOLDER, self._job.folder / SAMPLES_FOLDER, dirs_exist_ok=True
            )

    def _tell(self, event: str, **values: object) -> None:
        """Write an event on rank 0."""
        if self._ranks.is_main:
            self._events.write(event, values)


def _lines(rows: list[dict[str, float]]) -> bytes:
    """Return rows as JSON, one a line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _rows(path: Path) -> list[dict[str, float]]:
    """Read rows written by `_lines`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
