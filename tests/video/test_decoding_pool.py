import errno

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.video import decoding_pool
from mobilevideogpt.video.decoding_pool import DecodingPool
from tests.data.one_colour import one_colour


def test_a_clip_whose_reading_hangs_is_an_error_that_names_it(monkeypatch, tmp_path):
    hangs = str(tmp_path / "hangs.mp4")
    with DecodingPool(1) as pool:
        results = pool.map_ahead(one_colour, [("1.mp4", "1"), (hangs, "2")], 2)
        assert next(results)["pixel_values_videos"].max() == 1  # the worker has started
        monkeypatch.setattr(decoding_pool, "READ_SECONDS", 1)
        with pytest.raises(InputError, match=r"hangs\.mp4: was not read within 1 s; .* Re-encode it"):
            next(results)


def test_a_system_without_shared_memory_is_an_error_with_a_remedy(monkeypatch):
    def no_semaphore(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(decoding_pool.ProcessPoolExecutor, "__init__", no_semaphore)
    with pytest.raises(InputError, match=r"cannot start \(Read-only file system\); make /dev/shm writable"):
        DecodingPool(1)
