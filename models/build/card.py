"""Writes the model card of the tiny base from measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from models.build.recipe import STAGES, Recipe
from models.build.vocabulary import VOCABULARY

_TEMPLATE: Final = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# tiny-emoji-sd

A small text-to-image model in the Stable Diffusion layout, made for demos, tests and benchmarks
of fine-tuning without a GPU and without a download. It draws {num_drawn} nouns on {num_backgrounds}
backgrounds, 64 x 64 pixels. It knows nothing else and is of no use beyond that.

![samples](samples.png)

Pictures of held-out seeds, {sampling_steps} steps of ancestral Euler, guidance
{guidance_scale}; none left out.

```python
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("models/tiny-emoji-sd")
pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
pipeline("a photo of a robot on the beach", guidance_scale={guidance_scale}).images[0]
```

## Figures

Measured by `python -m models.build evaluate` on {num_held_out} held-out scenes, {num_pictures}
generated pictures of nouns on backgrounds (guidance {guidance_scale}), and one picture of each
scene's caption (guidance {likeness_guidance_scale}). The sampler adds noise of its own: those that
do not, DDIM and DPM-Solver++ for example, keep the grain of some seeds to the end.

| what | value | aim |
| --- | --- | --- |
| autoencoder, PSNR | {psnr:.1f} dB | 32 dB |
| CLIP, noun among {num_nouns}, top-1 | {clip_noun:.1%} | 85 % |
| CLIP, background among {num_backgrounds}, top-1 | {clip_background:.1%} | 97 % |
| judge on real scenes, noun / background | {real_noun:.1%} / {real_background:.1%} | 90 % |
| judge on generated pictures, noun | {noun:.1%} | 95 % |
| judge on generated pictures, background | {background:.1%} | 99 % |
| Fréchet distance to real scenes (real halves) | {frechet:.2f} ({floor:.2f}) | at most 1.5 times |

The judge is a convolutional classifier with its own architecture and seed; it took no part in
training. The Fréchet distance is taken in the space of `tiny-emoji-dino` between the scenes and
the pictures of their captions. More guidance makes pictures clearer and more alike, which it counts
as distance.

{personalised}Every stage continues from its last state, see [models/README.md](../README.md).

## Training

| stage | steps | batch | hours |
| --- | --- | --- | --- |
{stages}

Two CPU cores shared with other work, float32 and at the end bfloat16, seed {seed}; the hours are
wall-clock time. The command: `make base-model`, which calls `python -m models.build`. Stages began
from the weights of the base before this one, which drew 16 nouns (`--begin-from`), were stopped and
restarted with other numbers of steps, so the seed alone does not give these weights again.

| part | parameters |
| --- | --- |
{parameters}

- Data: scenes composed by program from emoji sprites on drawn backgrounds, with captions; scene i
  depends on (seed, i) alone. {num_captioned} captioned scenes; {num_wide} more without captions
  for the autoencoder and the image encoder. Attributions: [models/README.md](../README.md).
- Held out from every stage: the emoji that `examples/subjects` and the tests use.
- Noise schedule: scaled linear to 0.02, epsilon prediction, min-SNR weights, captions dropped in
  10 % of the draws, averaged weights. Scaling factor: 1 / spread of the latents, folded into the
  autoencoder, so it reads 1.
- The UNet is smaller than the family it imitates and does not attend to the text at 16 x 16: on two
  CPU cores a fine-tuning step must take well under a second.

Nouns that the UNet has learnt to draw: {drawn}. Generation is judged on these.

Nouns that the CLIP pair knows: {nouns}.

Backgrounds: {backgrounds}.
"""

_PERSONALISED: Final = """\
### Personalised

Subjects that no stage has seen, each with the settings of `examples/demo.yaml`; 16 pictures a
subject on the moon, on the beach, in snow and on a red background. `make eval-base-model`
measures them again.

![each row: one picture of the subject, then all 16 pictures](personalised.png)

| subject | DINO: base | personalised | real | way | CLIP-T: base | personalised | real |
| --- | --- | --- | --- | --- | --- | --- | --- |
{fidelity}

*Way* is how far from the base's score to the real pictures' own. CLIP-T of real pictures is taken
with their own captions; what it can show here: docs/adr/0014.

| subject | place right: base | personalised | other nouns right: base | personalised |
| --- | --- | --- | --- | --- |
{preservation}

*Right* is what the judge says; other nouns are those that the UNet draws, without the subject's.

| subject | recognised | the classifier's own accuracy | PRES: rise | DIV: share | by LPIPS |
| --- | --- | --- | --- | --- | --- |
{identity}

*Recognised*: a classifier names the subject, not one of ten look-alikes of the class, half of them
in the subject's hue. PRES: class pictures that come to look like the subject; lower is better.
DIV: how different the pictures of one prompt are, as a share of the base's, by DINO and by LPIPS.
LPIPS (AlexNet) is what the DreamBooth paper takes; by DINO it falls as pictures show one and the
same subject.

"""


def write_card(
    figures: dict[str, Any],
    *,
    recipe: Recipe,
    parameters: dict[str, int],
    path: Path,
) -> None:
    """Write the card.

    Args:
        figures: what `grade` measured; `personalised` may be empty.
        recipe: the numbers that made the model.
        parameters: part of the model -> number of parameters.
        path: of the card.
    """
    stages = [
        f"| {stage} | {figures['training_steps'][stage]:,} | {recipe.training[stage].batch_size} "
        f"| {figures['training_seconds'][stage] / 3600:.2f} |"
        for stage in STAGES
    ]
    generation, real = figures["generation"], figures["judge_on_real_scenes"]
    text = _TEMPLATE.format(
        num_nouns=len(VOCABULARY.noun_names),
        num_drawn=len(recipe.drawn_nouns),
        num_backgrounds=len(VOCABULARY.background_names),
        sampling_steps=recipe.sampling_steps,
        guidance_scale=recipe.guidance_scale,
        num_held_out=recipe.num_held_out_scenes,
        num_pictures=generation["num_pictures"],
        psnr=figures["autoencoder_psnr_db"],
        clip_noun=figures["clip"]["noun_top1"],
        clip_background=figures["clip"]["background_top1"],
        real_noun=real["noun_top1"],
        real_background=real["background_top1"],
        noun=generation["noun_top1"],
        background=generation["background_top1"],
        personalised=_personalised(figures["personalised"]),
        likeness_guidance_scale=recipe.likeness_guidance_scale,
        frechet=figures["likeness"]["frechet_distance"],
        floor=figures["likeness"]["frechet_distance_real_halves"],
        stages="\n".join(stages),
        seed=recipe.seed,
        parameters="\n".join(f"| {name} | {count:,} |" for name, count in parameters.items()),
        num_captioned=f"{recipe.num_captioned_scenes:,}",
        num_wide=f"{recipe.num_wide_scenes:,}",
        nouns=", ".join(VOCABULARY.noun_names),
        drawn=", ".join(recipe.drawn_nouns),
        backgrounds=", ".join(VOCABULARY.background_names),
    )
    path.write_text(text)


def _personalised(rows: list[dict[str, Any]]) -> str:
    """Return the section about personalised models; empty without figures."""
    if not rows:
        return ""
    fidelity = [
        f"| {row['subject']} | {row['dino_base']:.3f} | {row['dino']:.3f} | {row['dino_real']:.3f} "
        f"| {row['way']:.0%} "
        f"| {row['clip_t_base']:.3f} | {row['clip_t']:.3f} | {row['clip_t_real']:.3f} |"
        for row in rows
    ]
    preservation = [
        f"| {row['subject']} | {row['places_base']:.0%} | {row['places']:.0%} "
        f"| {row['others_base']:.0%} | {row['others']:.0%} |"
        for row in rows
    ]
    identity = [
        f"| {row['subject']} | {row['recognised']:.0%} | {row['recognised_real']:.1%} "
        f"| {row['pres_rise']:+.3f} | {row['div_share']:.2f} | {_share(row['lpips_share'])} |"
        for row in rows
    ]
    return _PERSONALISED.format(
        fidelity="\n".join(fidelity),
        preservation="\n".join(preservation),
        identity="\n".join(identity),
    )


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"
