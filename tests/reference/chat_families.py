"""The reference training for families with a chat model: called as diffusers' pipelines do."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from reference.families import FamilyReference
from reference.training import Sample

LENGTH = 64  # of the tiny models' tokenizer


class ChatReference(FamilyReference):
    """One training of a family; arguments as in `FamilyReference`, but a shift of 0 is dynamic."""

    def __init__(self, pipeline: str, **arguments: Any) -> None:
        super().__init__(pipeline, **arguments)
        self._name, self._vae = pipeline, self._pipe.vae
        self._is_dynamic = not self._shift
        if pipeline != "ZImagePipeline":
            plain = SimpleNamespace(scaling_factor=1.0)
            self._base.vae = SimpleNamespace(config=plain, encode=self._encode)

    def _encode(self, pixels: torch.Tensor) -> Any:
        """A film of one frame for Qwen-Image's autoencoder."""
        if self._name != "QwenImagePipeline":
            return self._vae.encode(pixels)
        moments = self._vae.encode(pixels.unsqueeze(2)).latent_dist.parameters.squeeze(2)
        return SimpleNamespace(latent_dist=SimpleNamespace(parameters=moments))

    def _sample(self, half: str, step: int, slot: int) -> Sample:
        """Mean and deviation of each channel, or of each channel of squares of two by two."""
        if self._name == "ZImagePipeline":
            return super()._sample(half, step, slot)
        sample = super(FamilyReference, self)._sample(half, step, slot)
        if self._name == "QwenImagePipeline":
            config = self._vae.config
            means, deviations = (
                torch.tensor(values).double().view(-1, 1, 1)
                for values in (config.latents_mean, config.latents_std)
            )
            return replace(sample, latents=(sample.latents - means) / deviations)
        norm = self._vae.bn
        squares = self._pipe._patchify_latents(sample.latents[None])
        means = norm.running_mean.view(1, -1, 1, 1)
        deviations = torch.sqrt(
            norm.running_var.view(1, -1, 1, 1) + self._vae.config.batch_norm_eps
        )
        normal = self._pipe._unpatchify_latents((squares - means) / deviations)
        return replace(sample, latents=normal[0])

    def _pick(self, half: str, what: str, count: int, at: tuple[int, int]) -> Any:
        """A dynamic shift is drawn through two points, by the number of tokens."""
        if what == "timestep" and self._is_dynamic:
            config = self._pipe.scheduler.config
            width, height = self._shots(half, at[0])[1]
            place = (width * height / 16 - config.base_image_seq_len) / (
                config.max_image_seq_len - config.base_image_seq_len
            )
            self._shift = math.exp((1 - place) * config.base_shift + place * config.max_shift)
        return super()._pick(half, what, count, at)

    def _predicted(self, noisy: torch.Tensor, timestep: torch.Tensor, caption: str) -> Any:
        return {
            "Flux2KleinPipeline": self._klein,
            "ZImagePipeline": self._z_image,
            "QwenImagePipeline": self._qwen_image,
        }[self._name](noisy, timestep, caption)

    def _klein(self, noisy: torch.Tensor, timestep: torch.Tensor, caption: str) -> Any:
        pipe = self._pipe
        context, text_ids = pipe.encode_prompt(caption, "cpu", max_sequence_length=LENGTH)
        squares = pipe._patchify_latents(noisy)
        places = pipe._prepare_latent_ids(squares)
        found = pipe.transformer(
            pipe._pack_latents(squares),
            encoder_hidden_states=context,
            timestep=timestep.double() / 1000,
            img_ids=places,
            txt_ids=text_ids,
        ).sample
        return pipe._unpatchify_latents(
            pipe._unpack_latents_with_ids(found, places, *squares.shape[2:])
        )

    def _z_image(self, noisy: torch.Tensor, timestep: torch.Tensor, caption: str) -> Any:
        contexts, _ = self._pipe.encode_prompt(
            caption, "cpu", do_classifier_free_guidance=False, max_sequence_length=LENGTH
        )
        (found,) = self._pipe.transformer(
            [noisy[0].unsqueeze(1)], (1000 - timestep.double()) / 1000, contexts
        ).sample
        return -found.squeeze(1)[None]

    def _qwen_image(self, noisy: torch.Tensor, timestep: torch.Tensor, caption: str) -> Any:
        pipe, (_, channels, height, width) = self._pipe, noisy.shape
        context, mask = pipe.encode_prompt(caption, "cpu")
        found = pipe.transformer(
            pipe._pack_latents(noisy, 1, channels, height, width),
            encoder_hidden_states=context,
            encoder_hidden_states_mask=mask,
            timestep=timestep.double() / 1000,
            img_shapes=[[(1, height // 2, width // 2)]],
        ).sample
        return pipe._unpack_latents(found, 2 * height, 2 * width, 2).squeeze(2)
