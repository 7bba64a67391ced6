"""The colours are the principal components that scikit-learn finds."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.decomposition import PCA

from racdino.verify.pca import principal_components, rgb_maps


def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 12, 5, 7, generator=generator) * torch.linspace(3, 0.2, 12).view(1, -1, 1, 1)


def test_components_equal_scikit_learns_up_to_sign():
    cells = features().permute(0, 2, 3, 1).reshape(-1, 12).double().numpy()
    expected = PCA(3, svd_solver="full").fit_transform(cells).reshape(2, 5, 7, 3)
    found = principal_components(features()).numpy()
    signs = np.sign((found * expected).sum((0, 1, 2)))
    np.testing.assert_allclose(found * signs, expected, atol=1e-9)


def test_negated_features_give_the_negated_picture():
    """The sign of a direction is fixed by the features' own axes, not by the solver."""
    torch.testing.assert_close(principal_components(-features()), -principal_components(features()))


def test_colours_use_the_whole_range_and_constant_features_are_black():
    picture = rgb_maps(features())
    assert (picture.dtype, picture.shape) == (np.uint8, (2, 5, 7, 3))
    assert all(picture[..., c].min() == 0 and picture[..., c].max() == 255 for c in range(3))
    assert not rgb_maps(torch.ones(1, 4, 3, 3)).any()
