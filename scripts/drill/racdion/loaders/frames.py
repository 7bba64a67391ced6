import torch


class RandomFrames(torch.utils.data.Dataset):
    """Six cameras of noise, so that this tree trains without a data set."""

    def __init__(self, size=(256, 704), cameras=6, length=2):
        self.size, self.cameras, self.length = size, cameras, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return torch.randn(self.cameras, 3, *self.size, generator=torch.Generator().manual_seed(index))
