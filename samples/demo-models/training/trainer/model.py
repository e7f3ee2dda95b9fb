"""Qwen2.5's decoder and Qwen2.5-VL's picture encoder in plain torch, for training on batches of pictures of one size.

transformers has both, but its encoder attends window by window in a Python loop, which takes most of a training step.
The parameters are named as in Qwen's own checkpoints, so that `state_dict` is what vLLM and transformers load; that
both give these modules' answers is tested. Equations: https://arxiv.org/abs/2412.15115 and
https://arxiv.org/abs/2502.13923.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

PATCH, MERGE, WINDOW = 14, 2, 4  # pixels; patches a cell's side; cells a window's side
CELL = PATCH * MERGE  # one cell is one token of the prompt
EPSILON = 1e-6


@dataclass(frozen=True)
class Decoder:
    """The language model's shape. `mrope_section`: how many frequencies tell time, row and column; None: plain RoPE."""

    vocabulary: int
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 640
    theta: float = 10_000.0
    mrope_section: tuple[int, int, int] | None = None

    @property
    def head(self) -> int:
        return self.hidden // self.heads


@dataclass(frozen=True)
class Encoder:
    """The picture encoder's shape. `full_attention`: the layers that look over the whole picture."""

    hidden: int = 256
    layers: int = 5
    heads: int = 4
    intermediate: int = 320
    full_attention: tuple[int, ...] = (2, 4)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on (…, length, head); `cos` and `sin` can be broadcast to it."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), EPSILON)


class Mlp(nn.Module):
    def __init__(self, hidden: int, intermediate: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.up_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.down_proj = nn.Linear(intermediate, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderAttention(nn.Module):
    def __init__(self, shape: Decoder) -> None:
        super().__init__()
        self.head = shape.head
        self.groups = shape.heads // shape.kv_heads
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head)
        self.o_proj = nn.Linear(shape.heads * shape.head, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = (
            project(x).view(batch, length, -1, self.head).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, cos, sin).to(value.dtype), rotate(key, cos, sin).to(value.dtype)
        key, value = key.repeat_interleave(self.groups, 1), value.repeat_interleave(self.groups, 1)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.o_proj(seen.transpose(1, 2).reshape(batch, length, -1))


class DecoderLayer(nn.Module):
    def __init__(self, shape: Decoder) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden)
        self.self_attn = DecoderAttention(shape)
        self.post_attention_layernorm = Norm(shape.hidden)
        self.mlp = Mlp(shape.hidden, shape.intermediate, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Language(nn.Module):
    """Qwen2: from embedded tokens to the last hidden states; `logits` is tied to the embedding."""

    def __init__(self, shape: Decoder) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden)
        frequencies = shape.theta ** (-torch.arange(0, shape.head, 2).float() / shape.head)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor

    def forward(
        self, embedded: Tensor, positions: Tensor, mask: Tensor, early: int | None = None
    ) -> tuple[Tensor, ...]:
        """The last hidden states, and with `early` also those after that many layers.

        `embedded` is (batch, length, hidden), `mask` (batch, 1, length, length) tells what sees what; `positions` is
        (batch, length), or (3, batch, length) for time, row and column.
        """
        if self.shape.mrope_section is None:
            angles = positions[..., None].float() * self.frequencies
        else:
            parts = (positions[..., None].float() * self.frequencies).split(self.shape.mrope_section, dim=-1)
            angles = torch.cat([part[axis] for axis, part in enumerate(parts)], dim=-1)
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        cos, sin = angles.cos(), angles.sin()
        x = embedded
        between: tuple[Tensor, ...] = ()
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, cos, sin, mask)
            if number == early:
                between = (x,)
        return self.norm(x), *between

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embed_tokens.weight)


class EncoderAttention(nn.Module):
    def __init__(self, shape: Encoder) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.hidden, shape.hidden * 3)
        self.proj = nn.Linear(shape.hidden, shape.hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """`x` is (pictures or windows, length, hidden)."""
        batch, length, hidden = x.shape
        query, key, value = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = rotate(query, cos, sin).to(value.dtype), rotate(key, cos, sin).to(value.dtype)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.proj(seen.transpose(1, 2).reshape(batch, length, hidden))


class EncoderLayer(nn.Module):
    def __init__(self, shape: Encoder) -> None:
        super().__init__()
        self.norm1 = Norm(shape.hidden)
        self.attn = EncoderAttention(shape)
        self.norm2 = Norm(shape.hidden)
        self.mlp = Mlp(shape.hidden, shape.intermediate, bias=True)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin, mask)
        return x + self.mlp(self.norm2(x))


class Merger(nn.Module):
    def __init__(self, hidden: int, out: int) -> None:
        super().__init__()
        merged = hidden * MERGE**2
        self.ln_q = Norm(hidden)
        self.mlp = nn.Sequential(nn.Linear(merged, merged), nn.GELU(), nn.Linear(merged, out))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, cells, patches of a cell, hidden) → (batch, cells, out)."""
        return self.mlp(self.ln_q(x).flatten(2))


class PatchEmbed(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, hidden, (2, PATCH, PATCH), bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """`patches` are (…, 3 · 14 · 14). A picture is two equal frames, so both frames' weights see the same."""
        return F.linear(patches, self.proj.weight.sum(2).flatten(1))


@dataclass(frozen=True)
class Layout:
    """How the cells of a grid lie in windows. The encoder works in window order, without padding."""

    order: Tensor  # window order → raster order, (cells,)
    back: Tensor  # raster order → window order, (cells,)
    slots: Tensor  # (windows · patches of a window,): the patch in window order, any where the slot is empty
    filled: Tensor  # (patches,): each patch's slot
    is_filled: Tensor  # (windows, patches of a window)
    angles: Tensor  # (patches in window order, head)


@functools.cache
def layout(rows: int, columns: int, head: int, device: torch.device) -> Layout:
    """For a grid of `rows` × `columns` cells."""
    row, column = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    window = row // WINDOW * -(-columns // WINDOW) + column // WINDOW
    order = torch.argsort(window * rows * columns + row * columns + column)
    patches = MERGE**2
    counts = torch.bincount(window)
    size = WINDOW**2 * patches
    is_filled = torch.arange(size)[None] < (counts * patches)[:, None]
    filled = is_filled.flatten().nonzero().flatten()
    slots = torch.zeros(len(counts) * size, dtype=torch.long)
    slots[filled] = torch.arange(len(filled))
    inside = torch.arange(patches)
    y = (row[order, None] * MERGE + inside // MERGE).flatten()
    x = (column[order, None] * MERGE + inside % MERGE).flatten()
    frequencies = 10_000.0 ** (-torch.arange(0, head // 2, 2).float() / (head // 2))
    angles = torch.cat((y[:, None] * frequencies, x[:, None] * frequencies), dim=-1)
    angles = torch.cat((angles, angles), dim=-1)
    return Layout(*(each.to(device) for each in (order, torch.argsort(order), slots, filled, is_filled, angles)))


class Pick(torch.autograd.Function):
    """`x[:, at]` whose gradient is `gradient[:, back]`, zero where `is_kept` is not.

    torch would add up gradients place by place, which is many times slower than reordering them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, at: Tensor, back: Tensor, is_kept: Tensor | None) -> Tensor:
        ctx.back, ctx.is_kept = back, is_kept
        return x.index_select(1, at)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        picked = gradients[0].index_select(1, ctx.back)
        return picked if ctx.is_kept is None else picked * ctx.is_kept, None, None, None


def pick(x: Tensor, at: Tensor, back: Tensor, is_kept: Tensor | None = None) -> Tensor:
    return Pick.apply(x, at, back, is_kept)


class Tower(nn.Module):
    """The picture encoder: pictures of one size in, one vector for each cell out."""

    def __init__(self, shape: Encoder, out: int) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = PatchEmbed(shape.hidden)
        self.blocks = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.layers))
        self.merger = Merger(shape.hidden, out)

    def forward(self, pictures: Tensor) -> Tensor:
        """(batch, 3, height, width), normalised, sides in whole cells → (batch, rows · columns, out)."""
        batch, _, height, width = pictures.shape
        rows, columns = height // CELL, width // CELL
        plan = layout(rows, columns, self.shape.hidden // self.shape.heads, pictures.device)
        cut = pictures.view(batch, 3, rows, MERGE, PATCH, columns, MERGE, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
        patches = cut.reshape(batch, rows * columns, MERGE**2, -1)[:, plan.order].flatten(1, 2)
        x = self.patch_embed(patches)
        cos, sin = plan.angles.cos(), plan.angles.sin()
        windows, size = plan.is_filled.shape
        local = plan.angles[plan.slots].view(windows, 1, size, -1).repeat(batch, 1, 1, 1)
        local_cos, local_sin = local.cos(), local.sin()
        mask = plan.is_filled[:, None, None].repeat(batch, 1, 1, 1).expand(-1, self.shape.heads, size, -1)
        for number, block in enumerate(self.blocks):
            if number in self.shape.full_attention:
                x = block(x, cos, sin, None)
            else:
                boxed = pick(x, plan.slots, plan.filled).view(batch * windows, size, -1)
                seen = block(boxed, local_cos, local_sin, mask).view(batch, windows * size, -1)
                x = pick(seen, plan.filled, plan.slots, plan.is_filled.view(1, -1, 1))
        return pick(self.merger(x.view(batch, rows * columns, MERGE**2, -1)), plan.back, plan.order)


def start(module: nn.Module, layers: int) -> None:
    """Small normal weights, smaller where a layer adds to the residual stream, as in GPT-2."""
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2:
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            continue
        columns = parameter[0].numel()
        std = 0.02 if "embed_tokens" in name else 0.7 / columns**0.5
        if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
            std /= (2 * layers) ** 0.5
        nn.init.normal_(parameter, std=std)
