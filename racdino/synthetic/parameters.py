"""What decides every byte of a synthetic data set."""

from __future__ import annotations

from dataclasses import dataclass

# Raise it when the same parameters give other files, so that data sets of an older racdino are made anew.
RENDERER = 1
SPLITS = {"v1.0-mini": ("mini_train", "mini_val"), "v1.0-trainval": ("train", "val")}


@dataclass(frozen=True)
class Parameters:
    """See ``racdino data synthesize --help``; ``image_size`` is width, height.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    version: str = "v1.0-mini"
    scenes: int = 10
    samples_per_scene: int = 8
    image_size: tuple[int, int] = (1600, 900)
    seed: int = 0
    camera_sweeps: int = 0
    lidar_sweeps: int = 1

    def __post_init__(self) -> None:
        if self.version not in SPLITS:
            raise ValueError(f"--version {self.version} cannot be rendered; known are {', '.join(SPLITS)}")
        for name, lowest, highest in (
            ("scenes", 2, 10 if self.version == "v1.0-mini" else 850),
            ("samples_per_scene", 2, 400),
            ("seed", 0, 2**63),
            ("camera_sweeps", 0, 5),
            ("lidar_sweeps", 0, 9),
        ):
            value = getattr(self, name)
            if not lowest <= value <= highest:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} {value} is out of range for {self.version}: {lowest} to {highest}")
        if not all(32 <= side <= 8192 for side in self.image_size):
            raise ValueError("--image-size {}x{} is out of range: 32 to 8192 both ways".format(*self.image_size))

    def scene_names(self) -> list[str]:
        """nuScenes' own names, so that the devkit sorts them into splits: train first, at least one of each split."""
        from nuscenes.utils import splits  # imports matplotlib and scikit-learn: two seconds

        train, val = (getattr(splits, split) for split in SPLITS[self.version])
        of_val = max(1, round(self.scenes * len(val) / (len(train) + len(val))))
        return [*sorted(train)[: self.scenes - of_val], *sorted(val)[:of_val]]
