"""The size at which the trainer would train a picture: its rule for buckets, scaling, cropping."""

from __future__ import annotations

import math
from dataclasses import dataclass

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Bucketing:
    """The dataset options that decide it, with the trainer's defaults; sizes are (width, height).

    The defaults are those of config_util.py and train_util.py at v0.10.1.
    """

    resolution: Size = (512, 512)
    enable_bucket: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False

    def treat(self, size: Size) -> tuple[Size, Size]:
        """What `size` is scaled to and then cropped to, evenly at both sides.

        A crop to 0 is what the trainer arrives at, too, for pictures smaller than the steps, and
        fails at (BucketManager.select_bucket, train_util.py:286-343 at v0.10.1).
        """
        if not self.enable_bucket:
            return _filled(size, self.resolution), self.resolution
        if not self.bucket_no_upscale:
            bucket = self._nearest_bucket(size)
            return _filled(size, bucket), bucket
        area = self.resolution[0] * self.resolution[1]
        scaled = self._shrunk(size, area) if size[0] * size[1] > area else size
        return scaled, (self._floor(scaled[0]), self._floor(scaled[1]))

    def _floor(self, side: int) -> int:
        return side - side % self.bucket_reso_steps

    def _nearest_bucket(self, size: Size) -> Size:
        buckets = self._buckets()
        if size in buckets:
            return size
        aspect = size[0] / size[1]
        return min(sorted(buckets), key=lambda bucket: abs(bucket[0] / bucket[1] - aspect))

    def _buckets(self) -> set[Size]:
        """model_util.make_bucket_resolutions, with the ends moved as train_util.py:750-764 does."""
        steps, area = self.bucket_reso_steps, self.resolution[0] * self.resolution[1]
        least = self._floor(self.min_bucket_reso)
        most = -(-self.max_bucket_reso // steps) * steps
        side = self._floor(int(math.sqrt(area)))
        buckets = {(side, side)}
        for width in range(least, most + 1, steps):
            height = min(most, self._floor(area // width))
            if height >= least:
                buckets |= {(width, height), (height, width)}
        return buckets

    def _shrunk(self, size: Size, area: int) -> Size:
        aspect = size[0] / size[1]
        width = math.sqrt(area * aspect)
        wide = self._floor(int(width + 0.5))
        high = self._floor(int(area / width + 0.5))
        height_of_wide = self._floor(int(wide / aspect + 0.5))
        width_of_high = self._floor(int(high * aspect + 0.5))
        # The trainer divides by zero at such slivers; the other way round decides there.
        off_wide = abs(wide / height_of_wide - aspect) if height_of_wide else math.inf
        off_high = abs(width_of_high / high - aspect) if high else math.inf
        if off_wide < off_high:
            return wide, int(wide / aspect + 0.5)
        return int(high * aspect + 0.5), high


def _filled(size: Size, bucket: Size) -> Size:
    """`size` scaled so that it just covers `bucket`."""
    (width, height), (across, down) = size, bucket
    wider = width / height > across / down
    scale = down / height if wider else across / width
    return int(width * scale + 0.5), int(height * scale + 0.5)
