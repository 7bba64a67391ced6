"""Textured quadrilaterals under perspective, the nearest kept for every pixel."""

from __future__ import annotations

import cv2
import numpy as np

NEAR = 0.25  # metres before the camera at which faces are cut
_SUBPIXEL = 4  # bits
NOBODY = -1


class Canvas:
    """An image that knows how far everything in it is.

    Attributes:
        image: (H, W, 3) uint8 blue, green, red.
        owner: (H, W) int16, whose face each pixel shows; ``NOBODY`` for the background.
        covered: by owner, how many pixels its outline covers, hidden ones included.
    """

    def __init__(self, image: np.ndarray, intrinsic: np.ndarray) -> None:
        self.image, self.intrinsic = image, intrinsic
        self.owner = np.full(image.shape[:2], NOBODY, np.int16)
        self.covered: dict[int, int] = {}
        self._nearness = np.zeros(image.shape[:2], np.float32)  # 1 / depth
        self._rays = np.linalg.inv(intrinsic)

    def draw(self, owner: int, faces: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """One thing: its faces that look at the camera, each (4, 3) corners in the camera frame and a picture.

        The picture's upper left lies at the first corner, its upper right at the second; no two things share an owner.
        """
        outlines = [outline(self.intrinsic, corners) for corners, _ in faces]
        shown = [(edge, *face) for edge, face in zip(outlines, faces, strict=True) if edge is not None]
        if not shown:
            return
        everything = np.concatenate([edge for edge, _, _ in shown])
        height, width = self.owner.shape
        left, top = np.maximum(np.floor(everything.min(axis=0)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(everything.max(axis=0)).astype(int) + 1, (width, height))
        if left >= right or top >= bottom:
            return
        area = np.s_[top:bottom, left:right]
        silhouette = np.zeros((bottom - top, right - left), np.uint8)
        for edge, corners, picture in shown:
            mask = np.zeros_like(silhouette)
            pixels = np.round((edge - (left, top)) * 2**_SUBPIXEL).astype(np.int32)
            cv2.fillConvexPoly(mask, pixels, 255, cv2.LINE_8, _SUBPIXEL)
            silhouette |= mask
            nearness = self._plane(corners, left, top, mask.shape)
            closer = (mask > 0) & (nearness > self._nearness[area])
            if closer.any():
                stretched = self._stretch(picture, corners, left, top, mask.shape)
                np.copyto(self.image[area], stretched, where=closer[..., None])
                np.copyto(self._nearness[area], nearness, where=closer)
                self.owner[area][closer] = owner
        self.covered[owner] = int(np.count_nonzero(silhouette))

    def visible(self) -> dict[int, int]:
        """By owner, how many pixels show it."""
        counts = np.bincount(self.owner.ravel() + 1)
        return {int(owner) - 1: int(counts[owner]) for owner in np.flatnonzero(counts) if owner}

    def _plane(self, corners: np.ndarray, left: int, top: int, shape: tuple[int, ...]) -> np.ndarray:
        """(h, w): 1 / depth of the face's plane, an affine function of the pixel."""
        (x, y, z), (u, v, w) = (corners[1] - corners[0]).tolist(), (corners[3] - corners[0]).tolist()
        normal = np.array([y * w - z * v, z * u - x * w, x * v - y * u])
        a, b, c = normal @ self._rays / (normal @ corners[0])
        columns = a * np.arange(left, left + shape[1], dtype=np.float32)
        rows = b * np.arange(top, top + shape[0], dtype=np.float32) + c
        return (columns + rows[:, None]).astype(np.float32)

    def _stretch(
        self, picture: np.ndarray, corners: np.ndarray, left: int, top: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """(h, w, 3): the picture over the whole plane of the face."""
        size = picture.shape[0]
        across, down = (corners[1] - corners[0]) / size, (corners[3] - corners[0]) / size
        first = corners[0] + (across + down) / 2  # the middle of the first pixel
        to_pixel = self.intrinsic @ np.stack([across, down, first], -1)
        to_pixel = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]]) @ to_pixel
        return cv2.warpPerspective(
            picture, to_pixel, (shape[1], shape[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )


def outline(intrinsic: np.ndarray, corners: np.ndarray) -> np.ndarray | None:
    """(n, 3) corners of a polygon in the camera frame -> (m, 2) pixels, cut at ``NEAR``; None behind the camera."""
    if corners[:, 2].min() < NEAR:
        corners = _cut(corners)
        if len(corners) < 3:
            return None
    pixels = corners @ intrinsic.T
    return pixels[:, :2] / pixels[:, 2:]


def _cut(corners: np.ndarray) -> np.ndarray:
    kept = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if a[2] >= NEAR:
            kept.append(a)
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            kept.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]))
    return np.array(kept).reshape(-1, 3)
