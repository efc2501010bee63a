"""Runs the stages of the recipe in order and knows where each keeps its state."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from torch import nn
from transformers import CLIPModel, CLIPTokenizer, Dinov2Model

from models.build.autoencoder import (
    AutoencoderObjective,
    encode_all,
    standardise_latents,
)
from models.build.clip import ClipObjective
from models.build.export import (
    Progress,
    export_clip,
    export_image_encoder,
    export_pipeline,
    read_progress,
    write_progress,
)
from models.build.image_encoder import ImageEncoderObjective
from models.build.judge import Judge, JudgeObjective
from models.build.parcel import Parcel
from models.build.recipe import STAGES, Recipe
from models.build.scenes import SceneSet, SceneStore
from models.build.sprites import EmojiCatalogue, ensure_emoji_art
from models.build.stage import (
    Objective,
    StageTrainer,
    load_state,
    save_state,
    training_device,
)
from models.build.subjects import SUBJECTS, render_subject
from models.build.tokenizer import save_tokenizer
from models.build.unet import UnetObjective, gather_latent_scenes
from models.build.vocabulary import VOCABULARY
from models.build.warm_start import Beginnings
from models.build.world import World

logger = logging.getLogger(__name__)

_NUM_STANDARDISING_SCENES = 2048


class Workshop:
    """The recipe at work.

    Args:
        recipe: every number.
        state: folder of scenes and training states.
        emoji_art: folder of the unpacked emoji packages; filled when empty.
        output: folder of the exported models.
        begin_from: folder of exported models from which stages without a state begin.
        parcel: folder that carries states between machines.
        minutes: of training; then every stage stops and keeps its state.
        num_processes: that draw scenes at once.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        state: Path,
        emoji_art: Path,
        output: Path,
        begin_from: Path | None = None,
        parcel: Path | None = None,
        minutes: float = math.inf,
        num_processes: int = 1,
    ) -> None:
        self.recipe = recipe
        self.state = state
        self.emoji_art = emoji_art
        self.output = output
        self._begin_from = begin_from
        self._untrained = Beginnings(recipe, models=begin_from)
        self._parcel = Parcel(parcel)
        self._deadline = time.monotonic() + 60 * minutes
        self._num_processes = num_processes

    @cached_property
    def scenes(self) -> SceneStore:
        """The scenes, drawn when first asked for."""
        catalogue = EmojiCatalogue(ensure_emoji_art(self.emoji_art))
        world = World(catalogue, seed=self.recipe.seed)
        return SceneStore(world, folder=self.state / "scenes", num_processes=self._num_processes)

    def run(self, action: str) -> None:
        """Do one action of the command line; `evaluate` is for `grading`."""
        if action in ("continue", "unpack"):
            self._parcel.unpack_art(self.emoji_art)
            self._parcel.unpack_states(STAGES, state=self.state)
        if action == "adopt":
            self.adopt()
        if action in ("all", "continue", *STAGES):
            self._train_stages(self._open_stages() if action in ("all", "continue") else (action,))
        if action in ("continue", "pack"):
            self._parcel.pack_states(STAGES, state=self.state)
            self._parcel.pack_art(self.scenes.world.wide_renditions, art=self.emoji_art)
        if action in ("all", "export"):
            self.export()
        if action == "subjects":
            catalogue = EmojiCatalogue(ensure_emoji_art(self.emoji_art))
            for subject in SUBJECTS:
                render_subject(
                    subject, catalogue=catalogue, seed=self.recipe.seed, output=self.output
                )

    def adopt(self) -> None:
        """Make states of exported models, at the steps that these had reached.

        A stage that has a state keeps it. What is not exported begins again: optimisers and the
        heads that only training needs.

        Raises:
            ProgressError: no models are named, or they do not say how far they are.
        """
        reached = read_progress(self._begin_from)
        for stage in STAGES:
            if (self.state / f"{stage}.pt").is_file():
                logger.info("%s has a state in %s, which stays", stage, self.state)
                continue
            trainer = self.stage_trainer(stage)
            trainer.step, trainer.seconds = int(reached[stage]["step"]), reached[stage]["seconds"]
            trainer.save()
            logger.info("%s continues from step %d", stage, trainer.step)

    def _train_stages(self, stages: Sequence[str]) -> None:
        for stage in stages:
            if time.monotonic() >= self._deadline:
                logger.info("the time is up before %s", stage)
                return
            self.train(stage)

    def _open_stages(self) -> tuple[str, ...]:
        """Return the stages to run: what a UNet was begun on is not trained further unasked."""
        if not (self.state / "unet.pt").is_file():
            return STAGES
        logger.info("a UNet has been begun: the autoencoder and the CLIP pair stay as they are")
        return tuple(stage for stage in STAGES if stage not in ("autoencoder", "clip"))

    def trainer(self, stage: str, objective: Objective) -> StageTrainer:
        """Return the trainer of a stage, not yet restored."""
        return StageTrainer(
            stage,
            objective=objective,
            plan=self.recipe.judge if stage == "judge" else self.recipe.training[stage],
            seed=self.recipe.seed,
            state_path=self.state / f"{stage}.pt",
            deadline=self._deadline,
            bfloat16=self.recipe.bfloat16,
        )

    def train(self, stage: str) -> None:
        """Train one stage to its end, from its last state.

        A state of the decoder holds the encoder that it was polished behind, so it goes when that
        is trained further.
        """
        trainer = self.stage_trainer(stage)
        polished = self.state / "decoder.pt"
        reached = self.progress()[stage]["step"] if stage == "autoencoder" else math.inf
        if trainer.plan.num_steps > reached and polished.is_file():
            logger.info("%s is of the encoder before: removed", polished)
            polished.unlink()
        trainer.run()

    def stage_trainer(self, stage: str) -> StageTrainer:
        """Return the trainer of a stage, with the weights that the stage begins from."""
        trainers = {
            "autoencoder": self.autoencoder_trainer,
            "clip": self.clip_trainer,
            "image-encoder": self.image_encoder_trainer,
            "unet": self.unet_trainer,
            "decoder": self.decoder_trainer,
            "vision": self.vision_trainer,
        }
        return trainers[stage]()

    def autoencoder_trainer(self) -> StageTrainer:
        """Return the trainer of the autoencoder."""
        objective = AutoencoderObjective(
            self._untrained.autoencoder(),
            pixels=self._all_pixels(),
            batch_size=self.recipe.training["autoencoder"].batch_size,
            kl_weight=self.recipe.autoencoder.kl_weight,
            near=self._untrained.known_autoencoder(),
        )
        return self.trainer("autoencoder", objective)

    def decoder_trainer(self) -> StageTrainer:
        """Return the trainer that polishes the decoder on the latents that the UNet knows."""
        model = self._untrained.autoencoder()
        self._load("autoencoder", module="autoencoder", into=model)
        objective = AutoencoderObjective(
            model,
            pixels=self._all_pixels(),
            batch_size=self.recipe.training["decoder"].batch_size,
            kl_weight=self.recipe.autoencoder.kl_weight,
            decoder_only=True,
            compiled=self.recipe.compiled,
        )
        return self.trainer("decoder", objective)

    def _all_pixels(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return (
            self.scenes.captioned(self.recipe.num_captioned_scenes).pixels_NHWC,
            self.scenes.wide(self.recipe.num_wide_scenes).pixels_NHWC,
        )

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """The tokenizer, learned when first asked for."""
        return save_tokenizer(
            self.state / "tokenizer",
            vocabulary_size=self.recipe.vocabulary_size,
            max_tokens=self.recipe.max_tokens,
        )

    def clip_trainer(self) -> StageTrainer:
        """Return the trainer of the CLIP pair."""
        return self._clip_trainer("clip", self._untrained.clip(self.tokenizer))

    def vision_trainer(self) -> StageTrainer:
        """Return the trainer that polishes the picture tower; the text tower stays."""
        model = self._untrained.clip(self.tokenizer)
        self._load("clip", module="clip", into=model)
        return self._clip_trainer("vision", model)

    def _clip_trainer(self, stage: str, model: CLIPModel) -> StageTrainer:
        objective = ClipObjective(
            model,
            tokenizer=self.tokenizer,
            scenes=self.scenes.captioned(self.recipe.num_captioned_scenes),
            batch_size=self.recipe.training[stage].batch_size,
            pictures_only=stage == "vision",
        )
        return self.trainer(stage, objective)

    def image_encoder_trainer(self) -> StageTrainer:
        """Return the trainer of the self-supervised image encoder."""
        objective = ImageEncoderObjective(
            self._untrained.image_encoder(),
            scenes=self.scenes.wide(self.recipe.num_wide_scenes),
            batch_size=self.recipe.training["image-encoder"].batch_size,
        )
        return self.trainer("image-encoder", objective)

    def unet_trainer(self) -> StageTrainer:
        """Return the trainer of the UNet, which needs the autoencoder and the text tower."""
        clip = self.trained_clip().to(training_device())
        captioned = self.scenes.captioned(self.recipe.num_captioned_scenes)
        kept = self._drawn_scenes(captioned)
        scenes = gather_latent_scenes(
            self.latents()[kept],
            captions=[captioned.captions[index] for index in kept.tolist()],
            text_encoder=clip.text_model,
            tokenizer=self.tokenizer,
        )
        objective = UnetObjective(
            self._untrained.unet(),
            scenes=scenes,
            batch_size=self.recipe.training["unet"].batch_size,
            compiled=self.recipe.compiled,
        )
        return self.trainer("unet", objective)

    def _drawn_scenes(self, scenes: SceneSet) -> torch.Tensor:
        """Return the indices of the scenes whose noun the UNet learns to draw."""
        names = VOCABULARY.noun_names
        drawn = [label for label, name in enumerate(names) if name in self.recipe.drawn_nouns]
        return torch.isin(torch.from_numpy(scenes.nouns), torch.tensor(drawn)).nonzero()[:, 0]

    def latents(self) -> torch.Tensor:
        """Return the latents of all captioned training scenes, kept on disk.

        They belong to one state of the autoencoder: training its encoder further makes new latents,
        and a UNet trained on the old ones must then be trained again.
        """
        step = int(load_state(self.state / "autoencoder.pt")["step"])
        path = self.state / f"latents-autoencoder-{step}.pt"
        if not path.is_file():
            scenes = self.scenes.captioned(self.recipe.num_captioned_scenes)
            model = self.trained_autoencoder().to(training_device())
            save_state({"latents": encode_all(model, scenes.pixels_NHWC)}, path=path)
        latents: torch.Tensor = load_state(path)["latents"]
        return latents

    def trained_autoencoder(self) -> AutoencoderKL:
        """Return the autoencoder as trained so far, its latents brought to mean 0 and spread 1."""
        model = self._untrained.autoencoder()
        self._load("decoder", "autoencoder", module="autoencoder", into=model)
        pixels = self.scenes.captioned(self.recipe.num_captioned_scenes).pixels_NHWC
        standardise_latents(model, pixels_NHWC=pixels[:_NUM_STANDARDISING_SCENES])
        return model

    def trained_clip(self) -> CLIPModel:
        """Return the CLIP pair as trained so far."""
        model = self._untrained.clip(self.tokenizer)
        self._load("vision", "clip", module="clip", into=model)
        return model

    def trained_image_encoder(self) -> Dinov2Model:
        """Return the self-supervised image encoder as trained so far."""
        model = self._untrained.image_encoder()
        self._load("image-encoder", module="encoder", into=model)
        return model

    def trained_unet(self) -> UNet2DConditionModel:
        """Return the UNet as trained so far, with its averaged weights."""
        model = self._untrained.unet()
        self._load("unet", module="unet", into=model)
        return model

    def _load(self, *stages: str, module: str, into: nn.Module) -> None:
        """Load the weights of the first stage that has a training state."""
        paths = [path for path in (self.state / f"{one}.pt" for one in stages) if path.is_file()]
        if not paths:
            logger.warning("%s has no training state yet: its weights are untrained", stages[-1])
            return
        state = load_state(paths[0])
        prefix = f"{module}."
        into.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state["modules"].items() if k.startswith(prefix)}
        )
        for parameter, average in zip(into.parameters(), state["average"], strict=False):
            parameter.data.copy_(average)
        into.eval()

    def export(self) -> None:
        """Write the models as trained so far into the output folder."""
        clip = self.trained_clip()
        export_pipeline(
            autoencoder=self.trained_autoencoder(),
            clip=clip,
            tokenizer=self.tokenizer,
            unet=self.trained_unet(),
            output=self.output,
        )
        export_clip(clip, tokenizer=self.tokenizer, output=self.output)
        export_image_encoder(self.trained_image_encoder(), output=self.output)
        write_progress(self.progress(), models=self.output)
        logger.info("exported to %s", self.output)

    def progress(self) -> Progress:
        """Return how far each stage has been trained."""
        found: Progress = {}
        for stage in STAGES:
            path = self.state / f"{stage}.pt"
            state = load_state(path) if path.is_file() else {}
            found[stage] = {key: state.get(key, 0) for key in ("step", "seconds")}
        return found

    def trained_judge(self) -> Judge:
        """Return the independent classifier, trained when it is not yet."""
        torch.manual_seed(self.recipe.seed + 4)
        judge = Judge()
        objective = JudgeObjective(
            judge,
            scenes=self.scenes.captioned(self.recipe.num_captioned_scenes),
            batch_size=self.recipe.judge.batch_size,
        )
        self.trainer("judge", objective).run()
        return judge.eval()
