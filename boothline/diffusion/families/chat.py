"""What families share whose texts are read by a chat model: the mask, and rows of their own length.

The denoiser reads as many tokens as a text has, so rows of a batch differ in length. Each goes
through alone: padding them to the longest would let a picture depend on its neighbours.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from boothline.diffusion.families.family import CONTEXT, MASK, Tensors
from boothline.diffusion.families.flow import FlowFamily, text_length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from boothline.diffusion.loading import DiffusionParts

TIMESTEPS = 1000
QWEN_TOKENIZER = ("Qwen2Tokenizer", "Qwen2TokenizerFast")


class ChatFamily(FlowFamily):
    """One text encoder, a chat model, of which hidden states are read.

    Attributes:
        longest: tokens of a text, those of the conversation around it included.
    """

    masked = True
    longest: ClassVar[int]

    def token_lengths(self, model: "DiffusionParts") -> dict[str, int]:
        """Return the pipeline's length, or a shorter one of the tokenizer."""
        return {"text_encoder": text_length(model, "text_encoder", longest=self.longest)}


def conversation(prompt: str, tokenizer: "PreTrainedTokenizerBase", *, thinking: bool) -> str:
    """Return a prompt as what a user says, up to where the model would answer."""
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=thinking,
    )
    return text


def hidden_state(text_encoder: "PreTrainedModel", tokens_UL: Tensors, *, layer: int) -> Tensors:
    """Return a hidden state as `context` (U, L, D), zeros for padding, and its mask.

    Columns that are padding in every text are not computed.
    """
    numbers, mask = tokens_UL["text_encoder"], tokens_UL.get(MASK)
    if mask is None:
        found = text_encoder(input_ids=numbers, output_hidden_states=True, use_cache=False)
        return {CONTEXT: found.hidden_states[layer]}
    columns = mask.any(0)
    hidden = text_encoder(
        input_ids=numbers[:, columns],
        attention_mask=mask[:, columns],
        output_hidden_states=True,
        use_cache=False,
    ).hidden_states[layer]
    context = hidden.new_zeros(*numbers.shape, hidden.shape[-1])
    context[:, columns] = hidden
    return {CONTEXT: context, MASK: mask}


def texts(conditioning: Tensors) -> "Iterator[torch.Tensor]":
    """Yield the hidden state of each text without its padding: (L, D)."""
    context_BLD, mask_BL = conditioning[CONTEXT], conditioning.get(MASK)
    for row, context_LD in enumerate(context_BLD):
        yield context_LD if mask_BL is None else context_LD[mask_BL[row].bool()]
