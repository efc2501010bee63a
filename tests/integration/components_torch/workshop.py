"""Makes trainings of the tiny model without training, for tests of what comes after."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save

from boothline.config.training import LoraConfig
from boothline.diffusion.base_model import resolve
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT_ENCODER = "text_encoder/model.safetensors"


class Workshop:
    """Commits trainings of the tiny model without training."""

    def __init__(self, store: Store, settings: Settings, base: Path) -> None:
        self.store = store
        self.base = base
        self.digest = resolve(str(base), settings=settings).digest
        self.dataset = store.commit(
            "steps/validate_data/d", ManifestDraft(kind="dataset", files={})
        )

    def training(self, *, scale: float = 1.5, base_model_digest: str = "") -> ManifestRef:
        """Commit a training whose weights are the base's times `scale`."""
        files: dict[str, Path | bytes] = {
            "optimizer.safetensors": b"not a model",
            "state.json": b"{}",
        }
        for name, path in (("unet", UNET), ("text_encoder", TEXT_ENCODER)):
            weights = {key: w * scale for key, w in load_file(self.base / path).items()}
            files[f"{name}.safetensors"] = save(weights)
        path = f"training/{scale}/step-000007"
        state = self.store.commit(path, ManifestDraft(kind="training_state", files=files))
        return self.store.commit(
            f"steps/train/{scale}{base_model_digest}",
            ManifestDraft(
                kind="training",
                files={},
                inputs=(self.dataset, state),
                metadata={
                    "final_state": self.store.read(state).content_digest,
                    "base_model_digest": base_model_digest or self.digest,
                },
            ),
        )

    def adapter_training(self, lora: LoraConfig, *, with_token: bool = False) -> ManifestRef:
        """Commit a training of adapters whose every weight is 0.1, and of a token's row of 0.2."""
        from boothline.diffusion.loading import load_pipeline
        from boothline.diffusion.lora import add_adapters

        parts = load_pipeline(self.base, device="cpu")
        files: dict[str, Path | bytes] = {}
        for name in add_adapters(parts, lora, text_encoder=True):
            weights = {
                key: torch.full_like(p, 0.1)
                for key, p in getattr(parts, name).named_parameters()
                if p.requires_grad
            }
            files[f"{name}_lora.safetensors"] = save(weights)
        if with_token:
            # Not a constant, of which layer norm leaves nothing.
            row = torch.linspace(-0.5, 0.5, parts.text_encoder.config.hidden_size)[None]
            files["token_embedding.safetensors"] = save({"text_encoder": row})
        draft = ManifestDraft(
            kind="training_state", files=files, metadata={"lora": lora.model_dump(mode="json")}
        )
        label = f"lora{'-token' * with_token}"
        state = self.store.commit(f"training/{label}/step-000007", draft)
        metadata = {
            "final_state": self.store.read(state).content_digest,
            "base_model_digest": self.digest,
        }
        draft = ManifestDraft(
            kind="training", files={}, inputs=(self.dataset, state), metadata=metadata
        )
        return self.store.commit(f"steps/train/{label}", draft)
