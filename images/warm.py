"""Imports what the steps import, so that its byte code is in the image: `warm.py tools|torch`.

The root file system is read-only in a container: without byte code each step would compile its
imports anew. Byte code of everything would double the image.
"""

import importlib
import os
import sys

MODULES = {
    "tools": """filelock fsspec huggingface_hub.file_download huggingface_hub.hf_api
        jinja2 kfp.dsl kfp.dsl.executor_main minio mlflow mlflow.entities
        mlflow.tracking.client numpy numpy.typing PIL.Image PIL.ImageDraw PIL.ImageOps
        PIL.JpegImagePlugin PIL.PngImagePlugin PIL.WebPImagePlugin psutil pydantic
        pydantic_settings rich.console rich.progress rich.table tenacity tokenizers typer
        typer.rich_utils yaml""",
    "torch": """accelerate diffusers peft safetensors.torch torch torch.distributed.run
        torch.distributed.launcher.api torch.nn.parallel torch.optim transformers""",
}
LAZY = {
    "diffusers": """AutoencoderKL DDIMScheduler DDPMScheduler DPMSolverMultistepScheduler
        EulerDiscreteScheduler StableDiffusionPipeline UNet2DConditionModel""",
    "transformers": """AutoImageProcessor AutoModel CLIPModel CLIPTextModel CLIPTokenizer
        Dinov2Model PreTrainedTokenizerFast""",
}


def main(image: str) -> None:
    """Import the modules of an image."""
    # As Kubeflow Pipelines starts a step: the SDK's clients stay out.
    os.environ["_KFP_RUNTIME"] = "true"
    for name in MODULES[image].split():
        module = importlib.import_module(name)
        for attribute in LAZY.get(name, "").split():
            getattr(module, attribute)


if __name__ == "__main__":
    main(sys.argv[1])
