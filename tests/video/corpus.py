"""Clips that are broken or unusual, made from good ones: ``python tests/video/corpus.py FOLDER SEEDS``."""

import io
import os
import random
import shutil
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

MATRICES = {"90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0), "mirrored": (-1, 0, 0, 1)}
ALTERNATE_REFERENCE = Path(__file__).with_name("alternate_reference.webm")  # VP8 in two passes: 60 of 63 frames shown
OPEN_GROUPS = "keyint=12:min-keyint=12:bframes=3:open-gop=1:scenecut=0"
JPEG = {"pix_fmt": "yuvj420p"}
FLIP_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # of the bits


def draw(
    path,
    frames=40,
    size=(64, 48),
    codec="libx264",
    pix_fmt="yuv420p",
    muxing=None,
    audio=False,
    still=False,
    steps=None,
    **stream,
):
    """Write a clip of a moving picture.

    Args:
        path: The file; its suffix is the container.
        frames: How many; 0 leaves a track without any, None no track.
        size: Width and height, pixels.
        codec: FFmpeg's encoder.
        pix_fmt: FFmpeg's pixel format.
        muxing: Options of the container, such as ``{"movflags": "faststart"}``.
        audio: Add a track of silence.
        still: Show the same picture throughout.
        steps: Frames of 1/30 s from each picture to the next, repeated; all 1 if None.
        stream: Attributes of the encoder, such as ``color_trc``.
    """
    with av.open(str(path), "w", options=muxing or {}) as container:
        picture = sound = None
        if frames is not None:
            picture = container.add_stream(codec, rate=30, width=size[0], height=size[1], pix_fmt=pix_fmt)
            for name, value in stream.items():
                setattr(picture.codec_context, name, value)
        if audio:
            sound = container.add_stream("aac", rate=16000, layout="mono")
        if picture:
            noise = np.random.default_rng(0).integers(0, 255, (min(size[1], 480), min(size[0], 640), 3), dtype=np.uint8)
            tiles = (-(-size[1] // noise.shape[0]), -(-size[0] // noise.shape[1]), 1)
            time = 0
            for i in range(frames):
                shown = np.tile(np.roll(noise, 0 if still else i, axis=1), tiles)[: size[1], : size[0]]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format="rgb24")
                frame.pts, time = time, time + (steps[i % len(steps)] if steps else 1)
                container.mux(picture.encode(frame))
            if frames:
                container.mux(picture.encode())
        if sound:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16000
            container.mux(sound.encode(silence))
            container.mux(sound.encode())
    return Path(path)


def with_display_matrix(clip: Path, path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Copy an MP4 and write a display matrix of these signs into the copy."""
    data = bytearray(clip.read_bytes())
    start = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def with_edit_list(clip: Path, path: Path, seconds: float) -> Path:
    """Copy an MP4 that has an edit list, and let the copy's hide the first ``seconds``."""
    data = bytearray(clip.read_bytes())
    timescale = struct.unpack(">I", data[(start := data.index(b"mdhd") + 16) : start + 4])[0]
    start = data.index(b"elst") + 16  # its first edit: duration, then the time at which it begins
    begin = struct.unpack(">i", data[start : start + 4])[0]
    data[start : start + 4] = struct.pack(">i", begin + round(seconds * timescale))
    path.write_bytes(data)
    return path


def camera_clip(path: Path, frames: int = 40, orientation: int = 1) -> Path:
    """Write Motion JPEG whose pictures have EXIF, as cameras do."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "camera", orientation
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30, width=64, height=48, pix_fmt="yuvj420p")
        for i in range(frames):
            picture = io.BytesIO()
            Image.new("RGB", (64, 48), (6 * i, 0, 0)).save(picture, "JPEG", exif=exif)
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, Fraction(1, 30)
            container.mux(packet)
    return path


def spliced(path: Path, *parts: dict) -> Path:
    """Write Motion JPEG whose form changes part-way: the clips that `draw` makes with the options in ``parts``."""
    with av.open(str(path), "w") as sink:
        stream, time = None, 0
        for options in parts:
            with av.open(str(draw(path.with_suffix(".part.avi"), codec="mjpeg", **JPEG | options))) as source:
                stream = stream or sink.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream, packet.pts, packet.dts, packet.time_base = stream, time, time, Fraction(1, 30)
                        time += 1
                        sink.mux(packet)
    return path


def flipped(clip: Path, path: Path, rate: float, seed: int = 0) -> Path:
    """Copy a file and flip about this share of its bits, at least one, but none of the first 32 bytes, the type."""
    data, draws = bytearray(clip.read_bytes()), random.Random(seed)
    for _ in range(max(1, round(8 * len(data) * rate))):
        data[draws.randrange(32, len(data))] ^= 1 << draws.randrange(8)
    path.write_bytes(data)
    return path


def truncated(clip: Path, path: Path, share: float) -> Path:
    """Copy the first part of a file."""
    path.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * share)])
    return path


def good_clips(folder: Path) -> dict[str, Path]:
    """Write the good clips that the others are made from: one with its index first, one with its index last."""
    made = {"first": {"movflags": "faststart"}, "last": {}}
    return {name: draw(folder / f"index_{name}.mp4", size=(160, 120), muxing=muxing) for name, muxing in made.items()}


def broken_clips(folder: Path, cuts: int = 40, seeds: int = 1) -> list[Path]:
    """Write clips that are damaged, and files that are not clips.

    Args:
        folder: An existing folder.
        cuts: Number of places at which a clip is cut short.
        seeds: Draws of flipped bits at each rate.
    """
    paths = []
    for name, clip in good_clips(folder).items():
        paths += [truncated(clip, folder / f"cut_{name}_{i}.mp4", i / (cuts + 1)) for i in range(1, cuts + 1)]
        for rate in FLIP_RATES:
            paths += [
                flipped(clip, folder / f"flipped_{name}_{rate:g}_{seed}.mp4", rate, seed) for seed in range(seeds)
            ]
    named = {name: folder / f"{name}.mp4" for name in ("empty", "text", "directory", "fifo", "dangling", "missing")}
    named["empty"].touch()
    named["text"].write_text("no video\n" * 100)
    named["directory"].mkdir()
    os.mkfifo(named["fifo"])
    named["dangling"].symlink_to(folder / "nowhere.mp4")
    playlist = folder / "playlist.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{folder / 'index_first.mp4'}'\n")
    unreadable = Path(shutil.copy(folder / "index_first.mp4", folder / "unreadable.mp4"))
    unreadable.chmod(0)
    nothing = [
        draw(folder / "no_frame.mp4", frames=0, muxing={"movflags": "faststart"}),
        draw(folder / "sound.mp4", frames=None, audio=True),
    ]
    return [*paths, *named.values(), playlist, unreadable, *nothing]


def unusual_clips(folder: Path, large: tuple[int, int] = (7680, 4320)) -> list[Path]:
    """Write undamaged clips, each unusual in one way; ``large`` is the size of the largest."""
    good = good_clips(folder)
    wrong_suffix = shutil.move(draw(folder / "matroska.mkv"), folder / "matroska.mp4")
    return [
        *good.values(),
        *(
            with_display_matrix(good["first"], folder / f"rotated_{name}.mp4", matrix)
            for name, matrix in MATRICES.items()
        ),
        draw(folder / "hevc.mp4", codec="libx265"),
        draw(folder / "av1.mp4", codec="libsvtav1", size=(128, 96)),
        draw(folder / "vp9.webm", codec="libvpx-vp9"),
        draw(folder / "ten_bit.mp4", codec="libx265", pix_fmt="yuv420p10le"),
        draw(folder / "full_range.avi", codec="mjpeg", pix_fmt="yuvj420p"),
        draw(folder / "mpeg4.avi", codec="mpeg4"),
        draw(folder / "with_sound.mp4", audio=True),
        draw(folder / "variable_rate.mp4", steps=(1, 1, 4, 2)),
        draw(folder / "b_frames.mp4", options={"bf": "3", "g": "12"}),
        draw(folder / "groups.mp4", frames=90, options={"bf": "3", "g": "12"}),
        draw(folder / "open_groups.mp4", frames=90, options={"x264-params": OPEN_GROUPS}),
        draw(folder / "b_frames.avi", frames=90, options={"bf": "3", "g": "12"}),
        with_edit_list(good["first"], folder / "edited.mp4", 0.3),
        Path(shutil.copy(ALTERNATE_REFERENCE, folder)),
        camera_clip(folder / "camera.mov"),
        draw(folder / "a:b.mp4"),
        draw(folder / "Ünï çödé.mp4"),
        draw(folder / "narrow.mp4", size=(48, 64)),
        draw(folder / "alpha.mov", codec="prores_ks", pix_fmt="yuva444p10le"),
        draw(folder / "slowing.mp4", frames=87, steps=(*[1] * 60, *[30] * 27)),
        draw(folder / "short.mp4", frames=24),
        draw(folder / "long.mp4", frames=900, still=True),
        draw(folder / "one_frame.mp4", frames=1),
        draw(folder / "one_pixel.mp4", size=(1, 1), pix_fmt="yuv444p"),
        draw(folder / "large.mp4", frames=3, size=large, options={"preset": "ultrafast"}),
        Path(wrong_suffix),
    ]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    broken_clips(target, seeds=int(sys.argv[2]))
    unusual_clips(target)
