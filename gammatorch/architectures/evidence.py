"""What is known of the blocks of a stack before its norms have places."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from gammatorch.architectures.config import ModelConfig
from gammatorch.architectures.keys import embeds_patches, is_conditioned, may_end_elsewhere
from gammatorch.checkpoints.base import TensorEntry

TOWER = re.compile(
    r"vision|visual|video|image|pixel|audio|sound|(^|\.)(speech|codec)[_.]|^[va]\.(\w+_)?blk$"
    r"|(^|\.)(vit|vpm|apm|tts|mit|patch_.*|vq\w*)(\.|$)",
    re.IGNORECASE,
)
"""Names of stacks for images and sound."""

_TOWER_TYPE = re.compile(r"_(vision|audio|image)(_\w+)?$")
"""Types of towers that were saved on their own, so that their keys do not say it."""

_TORCH = frozenset({"self_attn.in_proj_weight", "linear1.weight", "linear2.weight"})
_DIFFUSERS_SELF, _HUNYUAN_SELF = "attn1.", "attn1.Wqkv."
_SWIN_V2 = frozenset({"attention.self.logit_scale", "attn.logit_scale"})
_FLASH_ATTN = re.compile(r"^(attn|mixer)\.Wqkv\.")
_RELATIVE = "attn.rel_pos."


@dataclass(frozen=True)
class Evidence:
    """What the rules of :mod:`~gammatorch.architectures.sides` and :mod:`~gammatorch.architectures.places` look at.

    Attributes:
        stack: Name of the stack.
        names: What the norms in its blocks are called, without layer index and leaf.
        kinds: Names of all tensors in its blocks.
        config: What config.json and the trainer's settings say.
        keys: Every tensor of the checkpoint, by key.
        ends: Whether a norm stands beside the stack under the name of one that follows the last block.
    """

    stack: str
    names: frozenset[str]
    kinds: frozenset[str]
    config: ModelConfig
    keys: Mapping[str, TensorEntry]
    ends: bool

    @property
    def types(self) -> tuple[str, ...]:
        """The model's type, and the text model's."""
        return self.config.types

    @property
    def is_known(self) -> bool:
        """Whether the model's type is known, so that its names mean what they mean in transformers."""
        return self.config.is_known

    @cached_property
    def is_tower(self) -> bool:
        """Whether the stack is one for images or sound."""
        return TOWER.search(self.stack) is not None or any(map(_TOWER_TYPE.search, self.types))

    @property
    def embeds_patches(self) -> bool:
        """Whether patches of an image are embedded beside the stack."""
        return embeds_patches(self.stack, self.keys)

    @cached_property
    def may_end_elsewhere(self) -> bool:
        """Whether a norm may follow the last block that has another name, or no weights."""
        return may_end_elsewhere(self.keys) or is_conditioned(self.keys)

    @property
    def is_torch(self) -> bool:
        """Whether the blocks are PyTorch's own ``nn.TransformerEncoderLayer`` or ``nn.TransformerDecoderLayer``."""
        return self.kinds >= _TORCH

    @property
    def is_diffusers(self) -> bool:
        """Whether the blocks are those of diffusers, which calls its self-attention ``attn1``, as HunyuanDiT's authors
        do, whose third norm is cross-attention's."""
        return self.holds(_DIFFUSERS_SELF) and not self.holds(_HUNYUAN_SELF)

    @property
    def is_swin_v2(self) -> bool:
        """Whether the blocks are Swin v2's, by the scale of its cosine attention in transformers and timm."""
        return not _SWIN_V2.isdisjoint(self.kinds)

    @property
    def is_flash_attn(self) -> bool:
        """Whether the blocks are those of flash-attn and of what was made after it."""
        return any(map(_FLASH_ATTN.match, self.kinds))

    @property
    def has_relative_positions(self) -> bool:
        """Whether the blocks are those of timm's ViT with relative positions."""
        return self.holds(_RELATIVE)

    def holds(self, *beginnings: str) -> bool:
        """Whether a tensor in the blocks has a name that begins so."""
        return any(kind.startswith(beginnings) for kind in self.kinds)

    def beside(self, name: str) -> bool:
        """Whether a module of that name stands beside the stack."""
        parent = self.stack.rpartition(".")[0]
        beginning = f"{parent}.{name}." if parent else f"{name}."
        return any(key.startswith(beginning) for key in self.keys)

    def is_of(self, types: Collection[str]) -> bool:
        """Whether the model, or its text model, is of one of the types."""
        return not set(types).isdisjoint(self.types)
