"""The reference training for other families: their networks called as diffusers' pipelines do.

SDXL       Podell et al., 2023, section 2.2: size, crop and target size go in as numbers
flow       Lipman et al., "Flow matching for generative modeling", 2023, in the straight line
           of Liu et al., "Flow straight and fast", 2023: z_s = (1 - s) z + s e, target e - z
levels     Esser et al., "Scaling rectified flow transformers", 2024: logit-normal (equation
           19), shifted (equation 23)
"""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, FluxPipeline
from peft import LoraConfig, inject_adapter_in_model
from reference.formulas import diffuse, error_of, masked_mean, preservation_loss
from reference.inputs import Tensors, start_row
from reference.training import OPTIMIZERS, ReferenceTraining, Sample, Trained, clip, read_shots

from boothline.diffusion import counters

T5_LENGTH = 32  # of the tiny models' tokenizer
GUIDANCE = 3.5  # what a distilled FLUX is told in diffusers' own training


class FamilyReference(ReferenceTraining):
    """One training of a family.

    Args:
        pipeline: name of diffusers' pipeline.
        folder: of the base model.
        settings: as in `ReferenceTraining`.
        density: of the noise levels, for flow matching.
        shift: of the levels.
    """

    def __init__(
        self, pipeline: str, *, job: Any, settings: dict[str, Any], density: str, shift: float
    ) -> None:
        self._pipe: Any = getattr(diffusers, pipeline).from_pretrained(job.base_model)
        self._density, self._shift = density, shift
        self._training = settings["training"]
        self._phrases, self._sizes = settings["phrases"], settings["sizes"]
        self._own = settings["tokens"]
        self._prior_weight = settings["prior_weight"]
        self._instance = [read_shots(one.instance) for one in job.pictures]
        self._prior = [read_shots(one.priors[0]) for one in job.pictures]
        self._networks = {
            name: part.double().requires_grad_(False).eval()
            for name, part in self._pipe.components.items()
            if isinstance(part, torch.nn.Module)
        }
        schedule = DDPMScheduler.from_config(self._pipe.scheduler.config)
        self._base: Any = SimpleNamespace(
            vae=self._pipe.vae, alpha_bar=schedule.alphas_cumprod.double().tolist(), moments={}
        )
        self._trained = self._start()

    @property
    def _is_flow(self) -> bool:
        return "transformer" in self._networks

    def _start(self) -> dict[str, torch.nn.Parameter]:
        """Put fresh adapters in, or free all weights; return what is trained by name."""
        t, lora = self._training, self._training["lora"]
        names = [n for n in self._networks if n.startswith("text_encoder")]
        trained = [name for name in self._networks if name in ("unet", "transformer")]
        trained += names if t["train_text_encoder"] else []
        found = {}
        for name in trained:
            network = self._networks[name]
            if t["method"] == "full":
                network.requires_grad_(True)
            else:
                text = name.startswith("text_encoder")
                settings = LoraConfig(
                    r=lora["rank"], lora_alpha=lora["alpha"],
                    target_modules=lora["text_encoder_targets"] if text else self._targets(lora),
                )  # fmt: skip
                draw = counters.integers(
                    (), high=2**31, seed=t["seed"], stream=f"lora/{name}", index=0
                )
                with torch.random.fork_rng():
                    torch.manual_seed(int(draw))
                    inject_adapter_in_model(settings, network)
            for key, parameter in network.named_parameters():
                if parameter.requires_grad:
                    found[f"{name}.{key}"] = parameter
        return {**found, **self._learnt_rows(names)}

    def _learnt_rows(self, names: list[str]) -> dict[str, torch.nn.Parameter]:
        """Let one word have a row that takes the place of what the tables give for it."""
        found = {}
        for name in names if self._own else ():
            ((identifier, word),) = self._own.items()
            tokenizer = self._networks_tokenizer(name)
            table = self._networks[name].get_input_embeddings()
            row = torch.nn.Parameter(start_row(tokenizer, table.weight.detach(), word)[None])
            found[f"token_embedding.{name}"] = row
            (known,) = tokenizer(identifier, add_special_tokens=False).input_ids

            def put(
                module: Any, inputs: Any, output: Any, row: Any = row, known: int = known
            ) -> Any:
                return torch.where((inputs[0] == known)[..., None], row, output)

            table.register_forward_hook(put)
        return found

    def _networks_tokenizer(self, name: str) -> Any:
        return getattr(self._pipe, name.replace("text_encoder", "tokenizer"))

    def _targets(self, lora: dict[str, Any]) -> list[str]:
        """All attention of both streams, as the networks call it."""
        pipeline = type(self._pipe).__name__
        if pipeline in ("StableDiffusion3Pipeline", "FluxPipeline", "Flux2KleinPipeline"):
            streams = ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
            single = ["to_qkv_mlp_proj"] if "Flux2" in pipeline else []
            return [*lora["targets"], *streams, *single]
        return list(lora["targets"])

    def run(self) -> Trained:
        """Take every step."""
        t = self._training
        start = {name: p.detach().double().clone() for name, p in self._trained.items()}
        optimizer = OPTIMIZERS[t["optimizer"]](t["beta1"], t["beta2"], t["weight_decay"])
        weights = start
        for step in range(t["num_steps"]):
            gradients = clip(self._gradients(step, weights), t["max_grad_norm"])
            rates = {name: self._rate(name, step) for name in gradients}
            moving = {name: weights[name] for name in gradients}
            weights = {**weights, **optimizer.step(moving, gradients, rates)}
        self.unread = start.keys() - gradients.keys()
        return Trained(start=start, weights=weights, average={})

    def _gradients(self, step: int, weights: Tensors) -> Tensors:
        """The gradients of all weights that the loss depends on."""
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(weights[name])
        slots = range(self._training["batch_size"])
        halves = [
            self._losses([self._sample(half, step, slot) for slot in slots], weights)
            for half in ("instance", "prior")
        ]
        loss = preservation_loss(*halves, weight=self._prior_weight)
        found = torch.autograd.grad(loss, list(self._trained.values()), allow_unused=True)
        return {n: g for n, g in zip(self._trained, found, strict=True) if g is not None}

    def _sample(self, half: str, step: int, slot: int) -> Sample:
        """Latents of an autoencoder with a mean of its own are centred before they are scaled."""
        sample = super()._sample(half, step, slot)
        config = self._pipe.vae.config
        shift = config.scaling_factor * (config.shift_factor or 0.0)
        return replace(sample, latents=sample.latents - shift)

    def _pick(self, half: str, what: str, count: int, at: tuple[int, int]) -> Any:
        """The timestep of flow matching is a noise level times 1000."""
        if what != "timestep" or not self._is_flow:
            return super()._pick(half, what, count, at)
        stream, seed = f"{half}/timestep", self._training["seed"]
        if self._density == "uniform":
            return 1000 * float(counters.uniform((), seed=seed, stream=stream, index=at))
        number = float(counters.normal((), seed=seed, stream=stream, index=at))
        odds = math.exp(number) * (self._shift if self._density == "shifted" else 1.0)
        return 1000 * odds / (1 + odds)

    def _losses(self, samples: list[Sample], weights: Tensors) -> torch.Tensor:
        losses = []
        for sample in samples:
            if self._is_flow:
                timestep = torch.tensor([sample.timestep])
                level = timestep.double() / 1000
                noisy = (1 - level) * sample.latents + level * sample.noise
                target = sample.noise - sample.latents
            else:
                timestep = torch.tensor([sample.timestep])
                noisy = diffuse(sample.latents, sample.noise, self._base.alpha_bar[sample.timestep])
                target = sample.noise
            (found,) = self._predicted(noisy[None], timestep, sample.caption)
            losses.append(masked_mean(error_of(found - target, None), sample.weights))
        return torch.stack(losses)

    def _predicted(self, noisy: torch.Tensor, timestep: torch.Tensor, caption: str) -> Any:
        name = type(self._pipe).__name__
        return {
            "StableDiffusionXLPipeline": self._sdxl,
            "StableDiffusion3Pipeline": self._sd3,
            "FluxPipeline": self._flux,
        }[name](noisy, timestep, caption)

    def _sdxl(self, noisy: torch.Tensor, timestep: torch.Tensor, caption: str) -> Any:
        context, _, pooled, _ = self._pipe.encode_prompt(
            caption, device="cpu", do_classifier_free_guidance=False
        )
        if not caption:  # Podell et al. trained it with zeros for no text
            context, pooled = torch.zeros_like(context), torch.zeros_like(pooled)
        height, width = (2 * side for side in noisy.shape[2:])
        ids = torch.tensor([[height, width, 0, 0, height, width]]).double()
        added = {"text_embeds": pooled, "time_ids": ids}
        return self._pipe.unet(noisy, timestep, context, added_cond_kwargs=added).sample

    def _sd3(self, noisy: torch.Tensor, timestep: torch.Tensor, caption: str) -> Any:
        context, _, pooled, _ = self._pipe.encode_prompt(
            caption, None, None, device="cpu", do_classifier_free_guidance=False,
            max_sequence_length=T5_LENGTH,
        )  # fmt: skip
        return self._pipe.transformer(noisy, context, pooled, timestep).sample

    def _flux(self, noisy: torch.Tensor, timestep: torch.Tensor, caption: str) -> Any:
        context, pooled, text_ids = self._pipe.encode_prompt(
            caption, None, device="cpu", max_sequence_length=T5_LENGTH
        )
        count, channels, height, width = noisy.shape
        packed = FluxPipeline._pack_latents(noisy, count, channels, height, width)
        found = self._pipe.transformer(
            packed,
            encoder_hidden_states=context,
            pooled_projections=pooled,
            timestep=timestep.double() / 1000,
            guidance=torch.full((count,), GUIDANCE).double(),
            txt_ids=text_ids,
            img_ids=FluxPipeline._prepare_latent_image_ids(
                count, height // 2, width // 2, "cpu", torch.float64
            ),
        ).sample
        return FluxPipeline._unpack_latents(found, 2 * height, 2 * width, 2)
