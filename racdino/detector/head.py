"""RaCFormer's head: queries in, detections and losses out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from racdino.detector import assigner, coder, losses  # noqa: F401  (registers what configs name)
from racdino.detector.batch import Detections
from racdino.detector.decoder import transformer as _transformer  # noqa: F401
from racdino.detector.decoder.coordinates import code_from_boxes
from racdino.detector.decoder.keyed_dropout import KeyedDropout
from racdino.detector.decoder.queries import place_queries
from racdino.detector.denoising import DenoisingQueries, make_denoising_queries
from racdino.detector.randomness import SampleRandom
from racdino.detector.reduction import normaliser
from racdino.detector.registry import build, register


class Queries(NamedTuple):
    """box: (B, Q, 10) query boxes. query: (B, Q, C). hidden: see `Scene`. The denoising ones, if any, are first."""

    box: Tensor
    query: Tensor
    dropout: KeyedDropout
    hidden: Tensor | None
    denoising: DenoisingQueries | None


@dataclass
class HeadOutput:
    """logits: (layers, B, Q, classes). codes: (layers, B, Q, 10) box codes. The other three: the same of the denoising
    queries and what they were made of; None outside training.
    """

    logits: Tensor
    codes: Tensor
    denoising_logits: Tensor | None = None
    denoising_codes: Tensor | None = None
    denoising: DenoisingQueries | None = None


@register("RaCFormer_head")
class RaCFormerHead(nn.Module):
    """Queries on rings around the car, the decoder, denoising, losses and decoding.

    Args:
        num_classes: of the detector; label ``num_classes`` means "unknown".
        num_query: Q, a multiple of ``num_clusters``, the number of rings.
        transformer, bbox_coder: configs. loss_cls, loss_bbox, loss_iou: configs; loss_iou's weight must be 0.
        in_channels: width of the maps; must be the transformer's embed_dims.
        query_denoising, query_denoising_groups: extra queries in training, per object.
        code_size, code_weights: numbers of a box code and their weights in the L1 loss and its matching cost.
        sync_cls_avg_factor: divide the class loss by the mean over processes; the box loss always does.
        train_cfg: holds the ``assigner``'s config; None builds a head without losses.
        positional_encoding, test_cfg: accepted and unused, for configs written for upstream.

    Raises:
        ValueError: the numbers do not fit each other.

    Source: RaCFormer, Chu et al. 2025, arXiv:2412.12725, sections 3.2 and 3.5.
    """

    code_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_query: int,
        num_clusters: int,
        transformer: Mapping[str, Any],
        bbox_coder: Mapping[str, Any],
        loss_cls: Mapping[str, Any],
        loss_bbox: Mapping[str, Any],
        loss_iou: Mapping[str, Any] | None = None,
        query_denoising: bool = True,
        query_denoising_groups: int = 10,
        code_size: int = 10,
        code_weights: Sequence[float] = (2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        sync_cls_avg_factor: bool = True,
        positional_encoding: Mapping[str, Any] | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(code_weights) != code_size:
            raise ValueError(f"code_weights has {len(code_weights)} numbers for a code_size of {code_size}.")
        self.num_classes = num_classes
        self.num_query = num_query
        self.denoising_groups = query_denoising_groups if query_denoising else 0
        self.sync_cls_avg_factor = sync_cls_avg_factor
        self.transformer = build(transformer)
        self.bbox_coder = build(bbox_coder)
        self.loss_cls = build(loss_cls)
        self.loss_bbox = build(loss_bbox)
        if loss_iou is not None:
            build(loss_iou)  # says so if it is given a weight
        self.assigner = build(train_cfg["assigner"]) if train_cfg else None
        embed_dims = self.transformer.embed_dims
        for name, found, expected in (
            ("in_channels", in_channels, embed_dims),
            ("num_classes", num_classes, self.transformer.num_classes),
            ("num_query", num_query, num_clusters * self.transformer.num_ray),
        ):
            if found != expected:
                raise ValueError(
                    f"{name} of the head is {found}; with num_clusters {num_clusters} and its transformer it must be "
                    f"{expected}."
                )
        self.register_buffer("code_weights", torch.tensor(code_weights))
        self.init_query_bbox = nn.Embedding(num_query, code_size)
        self.label_enc = nn.Embedding(num_classes + 1, embed_dims - 1)  # one channel tells denoising queries apart
        place_queries(self.init_query_bbox.weight, num_clusters)

    def queries(
        self,
        batch: int,
        targets: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
        random: SampleRandom | None = None,
    ) -> Queries:
        """What the decoder starts from. Reads no map, so it can be made before the GPU is busy with the images.

        Args:
            batch: B. targets: per sample (n, 9) box rows and (n,) labels, for denoising; needs ``random``.
            random: the batch's random numbers; None: no dropout.
        """
        box = self.init_query_bbox.weight.expand(batch, -1, -1)
        query = self._embed(torch.full((batch, self.num_query), self.num_classes, device=box.device), 0.0)
        ids, layers = torch.arange(self.num_query, device=box.device), len(self.transformer.d_region_list)
        if targets is None or not self.denoising_groups:
            return Queries(box, query, KeyedDropout(random, ids, layers), None, None)
        if random is None:
            raise ValueError("Denoising needs random numbers: give the head a SampleRandom together with targets.")
        denoising = make_denoising_queries(
            *targets, self.denoising_groups, self.num_classes, self.transformer.coordinates, random
        )
        return Queries(
            torch.cat([denoising.boxes, box], dim=1),
            torch.cat([self._embed(denoising.labels, 1.0), query], dim=1),
            KeyedDropout(random, denoising.query_ids(self.num_query), layers),
            denoising.hidden(self.num_query),
            denoising,
        )

    def forward(
        self,
        queries: Queries,
        features: Sequence[Tensor],
        lss_bev: Tensor,
        radar_bev: Tensor,
        lidar2img: Tensor,
        img_timestamp: Tensor,
        image_size: tuple[int, int],
    ) -> HeadOutput:
        """Find objects.

        Args:
            features: per level (B, T * N, C, H, W), frame-major, frame 0 the current one.
            lss_bev, radar_bev: (B, T, C, y, x) in the current LiDAR frame.
            lidar2img: (B, T * N, 4, 4) from the current LiDAR frame to pixels of an image of ``image_size`` (H, W).
            img_timestamp: (B, T * N) float64 seconds.

        Returns:
            What `loss` and `decode` take. NaN and infinity are left in it: `loss` then returns them, `decode` raises.
        """
        logits, codes = self.transformer(
            queries.box,
            queries.query,
            features,
            lss_bev,
            radar_bev,
            lidar2img,
            img_timestamp,
            image_size,
            queries.hidden,
            queries.dropout,
        )
        if queries.denoising is None:
            return HeadOutput(logits, codes)
        S = queries.denoising.size
        return HeadOutput(logits[:, :, S:], codes[:, :, S:], logits[:, :, :S], codes[:, :, :S], queries.denoising)

    def _embed(self, labels: Tensor, denoising: float) -> Tensor:
        """(B, Q) labels to (B, Q, C) queries whose last channel says whether they denoise."""
        embedded = self.label_enc(labels)
        return torch.cat([embedded, embedded.new_full((*labels.shape, 1), denoising)], dim=-1)

    def loss(self, output: HeadOutput, gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor]) -> dict[str, Tensor]:
        """Losses of every layer: loss_cls, loss_bbox of the last, d0.loss_cls, ... of the others, ..._dn of denoising.

        Args:
            gt_boxes: per sample (n, 9) box rows. gt_labels: per sample (n,) int64.

        Divided by the number of objects in all processes. A loss that is not finite stays so; only boxes with unknown
        numbers (NaN) are left out of the box loss.
        """
        if self.assigner is None:
            raise ValueError("This head was built without train_cfg and has no assigner; it cannot compute losses.")
        denoised: dict[str, Tensor] = {}
        if output.denoising is not None:  # first: it is queued while the decoder runs, for which the assignment waits
            objects = sum(len(labels) for labels in gt_labels)
            pair = self._denoising_loss(output, self.denoising_groups * objects)
            denoised.update(zip(("loss_cls_dn", "loss_bbox_dn"), pair, strict=True))
        terms = dict(zip(("loss_cls", "loss_bbox"), self._matched_loss(output, gt_boxes, gt_labels), strict=True))
        terms |= denoised
        last = len(output.logits) - 1
        return {
            f"d{layer}.{name}" if layer < last else name: of_layers[layer]
            for layer in range(last + 1)
            for name, of_layers in terms.items()
        }

    def _matched_loss(
        self, output: HeadOutput, gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Class and box loss of every layer, (layers,) each."""
        assert self.assigner is not None
        logits, codes = output.logits, output.codes
        gt_codes = [code_from_boxes(boxes) for boxes in gt_boxes]
        pairs = self.assigner.assign(codes, logits, gt_codes, gt_labels, self.code_weights)
        labels = torch.full(logits.shape[:-1], self.num_classes, device=logits.device)
        labels[pairs.layer, pairs.sample, pairs.query] = torch.cat(list(gt_labels))[pairs.target]
        count = len(pairs.query) // len(logits)
        found = codes[pairs.layer, pairs.sample, pairs.query].view(len(logits), count, codes.shape[-1])
        targets = torch.cat(gt_codes)[pairs.target].view_as(found)
        return self._losses(logits.flatten(1, 2), labels.flatten(1), found, targets, None, count)

    def _denoising_loss(self, output: HeadOutput, count: int) -> tuple[Tensor, Tensor]:
        """Class and box loss of every layer, (layers,) each, where ``count`` slots are filled."""
        queries, logits, codes = output.denoising, output.denoising_logits, output.denoising_codes
        assert queries is not None
        assert logits is not None
        assert codes is not None
        labels = queries.target_labels.flatten().expand(len(logits), -1)
        targets, filled = queries.targets.flatten(0, 1), queries.filled.flatten()
        return self._losses(logits.flatten(1, 2), labels, codes.flatten(1, 2), targets, filled, count)

    def _losses(
        self, logits: Tensor, labels: Tensor, codes: Tensor, targets: Tensor, filled: Tensor | None, count: int
    ) -> tuple[Tensor, Tensor]:
        """Class loss of (layers, n, classes), box loss of (layers, m, 10), both (layers,).

        ``filled`` (n,) bool: with it n is m and the others do not count. ``count``: how many boxes do.
        """
        total = normaliser(count, logits)
        cls_total = total if self.sync_cls_avg_factor else logits.new_full((), max(count, 1))
        known = targets.isfinite().all(-1)
        if filled is not None:
            known = known & filled
        # A difference is chosen, not multiplied by 0: what is unknown is NaN.
        found = torch.where(known[..., None], codes, 0)
        return (
            self.loss_cls(logits, labels, cls_total, filled),
            self.loss_bbox(found, torch.where(known[..., None], targets, 0), self.code_weights, total),
        )

    @torch.no_grad()
    def decode(self, output: HeadOutput) -> list[Detections]:
        """Detections of the last layer, one entry per sample. Raises: see `NMSFreeCoder.decode`."""
        return [
            self.bbox_coder.decode(logits, codes)
            for logits, codes in zip(output.logits[-1], output.codes[-1], strict=True)
        ]
