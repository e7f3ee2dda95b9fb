"""The two models as training sees them: a batch in, what is lost on it out."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from pages.page import COLORS
from torch import Tensor, nn

from trainer.batches import Rows, answer_loss
from trainer.loop import Losses
from trainer.model import CELL, Decoder, Encoder, Language, Tower, start
from trainer.vision_batches import KINDS, Hints

EARLY = 2  # layers after which the decoder should know where on the picture a token lies


class TextTrainee(nn.Module):
    encoder = None

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.decoder = Decoder(vocabulary, intermediate=512)
        self.model = Language(self.decoder)
        start(self.model, self.decoder.layers)

    def forward(self, rows: Rows) -> tuple[Tensor, Losses]:
        """The logits where an answer is asked for, and the losses."""
        [hidden] = self.model(self.model.embed_tokens(rows.ids), rows.positions[0], rows.mask())
        logits = self.model.logits(hidden.flatten(0, 1).index_select(0, rows.asked))
        return logits, {"answer": answer_loss(logits, rows.labels)}

    def weights(self) -> dict[str, Tensor]:
        return {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Takes what `weights` gave, instead of starting with random ones."""
        self.model.load_state_dict({name.removeprefix("model."): tensor.float() for name, tensor in weights.items()})


class VisionTrainee(nn.Module):
    """The model, and heads that only training has: they tell the encoder early what a cell shows (see `Hints`)."""

    def __init__(self, vocabulary: int, words: int) -> None:
        super().__init__()
        self.decoder = Decoder(vocabulary, layers=5, theta=500.0, mrope_section=(2, 15, 15))
        self.encoder = Encoder()
        self.model = Language(self.decoder)
        self.visual = Tower(self.encoder, self.decoder.hidden)
        start(self.model, self.decoder.layers)
        start(self.visual, self.encoder.layers)
        self.words = nn.Linear(self.decoder.hidden, words)
        nn.init.constant_(self.words.bias, -5.0)
        self.elements = nn.Linear(self.decoder.hidden, len(KINDS) + 1 + len(COLORS) + 1 + 4)
        self.place = nn.Linear(self.decoder.hidden, 2)

    def forward(self, rows: Rows, pictures: Tensor | None, hints: Hints | None) -> tuple[Tensor, Losses]:
        """The logits where an answer is asked for, and the losses."""
        embedded = self.model.embed_tokens(rows.ids)
        losses: Losses = {}
        if pictures is not None:
            features = self.visual(pictures)
            if hints is not None:
                losses |= self._told(features.float(), hints)
            flat = embedded.flatten(0, 1).index_copy(0, rows.pictured, features.flatten(0, 1).to(embedded.dtype))
            embedded = flat.view_as(embedded)
        hidden, early = self.model(embedded, rows.positions, rows.mask(), EARLY)
        if pictures is not None:
            height, width = pictures.shape[2] // CELL, pictures.shape[3] // CELL
            y, x = torch.arange(height, device=early.device), torch.arange(width, device=early.device)
            where = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(-1, 2).repeat(len(pictures), 1)
            placed = self.place(early.flatten(0, 1).index_select(0, rows.pictured)).float()
            losses["place"] = F.l1_loss(placed, where / 4) * 0.1
        logits = self.model.logits(hidden.flatten(0, 1).index_select(0, rows.asked))
        return logits, losses | {"answer": answer_loss(logits, rows.labels)}

    def _told(self, features: Tensor, hints: Hints) -> Losses:
        words = self.words(features).flatten(0, 1).float()
        target = torch.zeros_like(words)
        target[hints.words[:, 0], hints.words[:, 1]] = 1
        found = F.binary_cross_entropy_with_logits(words, target, reduction="sum") / len(hints.words)
        kinds, colors, edges = self.elements(features).float().split((len(KINDS) + 1, len(COLORS) + 1, 4), dim=-1)
        off = F.smooth_l1_loss(edges, hints.edges.float(), beta=0.2, reduction="none").mean(-1)
        is_element = hints.kinds > 0
        return {
            "words": found * 0.3,
            "kinds": F.cross_entropy(kinds.flatten(0, 1), hints.kinds.flatten().long()) * 0.5,
            "colors": F.cross_entropy(colors.flatten(0, 1), hints.colors.flatten().long()) * 0.5,
            "edges": (off * is_element).sum() / is_element.sum().clamp(1) * 0.3,
        }

    def weights(self) -> dict[str, Tensor]:
        parts = (("model", self.model), ("visual", self.visual))
        return {f"{part}.{name}": tensor for part, module in parts for name, tensor in module.state_dict().items()}
