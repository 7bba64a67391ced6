from torch import nn


class PatchEmbed(nn.Module):
    def __init__(self, patch_size, embed_dim):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, embed_dim, patch_size, patch_size)

    def forward(self, x):
        height, width = x.shape[-2:]
        assert height % self.patch_size == 0, f"Input image height {height} is not a multiple of patch height {self.patch_size}"
        assert width % self.patch_size == 0, f"Input image width {width} is not a multiple of patch width {self.patch_size}"
        return self.proj(x)
