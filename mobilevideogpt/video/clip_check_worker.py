"""Decode every frame of videos and say what was found: the process that `integrity` hands clips to, and may kill.

Reads a path a line (JSON) from standard input. Answers each on standard output with the file's digest, then with what
decoding found, a line each. FFmpeg's own error messages go to standard error; the parent takes any as damage, as
``ffmpeg -v error -f null`` would. Ends when standard input does, be it in the middle of a clip: its parent is gone.
"""

import json
import os
import queue
import signal
import sys
import threading

import av
import av.logging
import numpy as np
from av.video.reformatter import VideoReformatter

from mobilevideogpt.files import file_digest
from mobilevideogpt.video.decoding import holds_frame, open_video, picture_stream, turn
from mobilevideogpt.video.frame_hashes import frame_hashes
from mobilevideogpt.video.limits import limit_memory

THUMBNAILS = 16  # kept of a clip; at most twice as many while its length is not known
THUMBNAIL_WIDTH = 160  # pixels
HDR = (16, 18)  # transfer characteristics PQ and HLG, ISO 23091-2


def main(timeout_seconds: float, memory_bytes: int) -> None:
    """Serve until standard input ends.

    Args:
        timeout_seconds: A clip that takes longer ends the process, though nobody be there to kill it.
        memory_bytes: Address space that a clip may take, where the system has such a limit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    av.logging.set_level(av.logging.ERROR)
    av.logging.restore_default_callback()
    limit_memory(memory_bytes)
    paths = queue.SimpleQueue()
    threading.Thread(target=_read_paths, args=(paths,), daemon=True).start()
    _say({"ready": True})
    while True:
        path = paths.get()
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, timeout_seconds + 5)  # not handled, so that it kills
        _say({"digest": file_digest(path), "bytes": os.path.getsize(path)})
        _say(look(path))
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def _read_paths(paths: queue.SimpleQueue) -> None:
    for line in sys.stdin:
        paths.put(json.loads(line))
    os._exit(1)


def _say(what: dict) -> None:
    print(json.dumps(what), flush=True)


def look(path: str) -> dict:
    """Decode ``path`` in full; an error is a finding."""
    found = {"frames": 0, "corrupt": 0, "errors": []}
    try:
        with open_video(path) as container:
            decode(container, picture_stream(container), found)
    except MemoryError:  # FFmpeg's is one of these, too
        return {"short_of_memory": True}
    except (av.error.FFmpegError, ValueError) as error:
        found["errors"].append(getattr(error, "strerror", None) or str(error))
    return found


def decode(container, stream: av.VideoStream, found: dict) -> None:
    """Decode all frames of a stream and add to ``found`` what they are."""
    context, rate, aspect = stream.codec_context, stream.average_rate, stream.sample_aspect_ratio
    found |= {
        "container": container.format.name,
        "codec": context.codec.canonical_name,
        "width": context.width,
        "height": context.height,
        "pixel_aspect": float(aspect) if aspect else 1.0,
        "frames_declared": stream.frames or None,
        "fps": float(rate) if rate else None,
        "seconds": container.duration / av.time_base if container.duration else None,
        "rotation": 0,
        "oblique": False,
        "interlaced": False,
        "hdr": False,
        "size": False,
        "hidden": 0,
        "expected": 0,
    }
    thumbnails = Thumbnails(stream.frames)
    for packet in container.demux(stream):
        found["expected"] += holds_frame(packet)
        found["hidden"] += bool(packet.is_discard)
        try:
            for frame in packet.decode():
                if not found["frames"]:
                    found["rotation"] = frame.rotation
                    found["oblique"] = bool(frame.rotation) and turn(frame) == (1, 0, 0, 1)
                    found["hdr"] = int(frame.color_trc) in HDR
                    found |= {"width": frame.width, "height": frame.height}
                found["size"] |= (frame.width, frame.height) != (found["width"], found["height"])
                found["interlaced"] |= bool(frame.interlaced_frame)
                found["corrupt"] += bool(frame.is_corrupt)
                found["frames"] += 1
                thumbnails.offer(frame)
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            found["errors"].append(getattr(error, "strerror", None) or repr(error))
    found |= quality(thumbnails.pictures)
    found["hashes"] = frame_hashes(thumbnails.pictures)
    found["hash_seconds"] = thumbnails.step / found["fps"] if found["fps"] else None


class Thumbnails:
    """Small grey copies of frames spread evenly over a clip.

    Args:
        declared: Frames that the header speaks of, or 0, which makes more work for the same copies. Of a clip that has
            far fewer there are fewer copies.
    """

    def __init__(self, declared: int):
        self.pictures: list[np.ndarray] = []  # (h, w) uint8, all of one size
        self.step, self._seen = 1, 0  # frames from one picture to the next
        while self.step * 2 * THUMBNAILS <= declared:
            self.step *= 2
        self._size = (0, 0)
        self._grey = VideoReformatter()  # keeps what a frame's own would prepare for each frame anew

    def offer(self, frame: av.VideoFrame) -> None:
        """Keep a copy of the frame, if it is one's turn."""
        if self._seen == 0:
            width = min(frame.width, THUMBNAIL_WIDTH)
            self._size = width, max(1, round(frame.height * width / frame.width))
        if self._seen % self.step == 0:
            width, height = self._size
            av.logging.set_level(av.logging.PANIC)  # what the conversion says is no damage
            self.pictures.append(self._grey.reformat(frame, width, height, "gray").to_ndarray())
            av.logging.set_level(av.logging.ERROR)
            if len(self.pictures) == 2 * THUMBNAILS:
                del self.pictures[1::2]
                self.step *= 2
        self._seen += 1


def quality(pictures: list[np.ndarray]) -> dict[str, float | None]:
    """Measure thumbnails ``(h, w)`` uint8; what they are too few or too small for is None.

    Returns:
        ``brightness``, mean luma from 0 to 255; ``sharpness``, mean variance of the Laplacian, the usual measure of
        focus (Pech-Pacheco et al., 2000); ``motion``, mean absolute difference of a thumbnail and the next.
    """
    found = dict.fromkeys(("brightness", "sharpness", "motion"))
    if not pictures:
        return found
    grey = np.stack(pictures).astype(np.float32)  # (n, h, w)
    found["brightness"] = float(grey.mean())
    if len(grey) > 1:
        found["motion"] = float(np.abs(np.diff(grey, axis=0)).mean())
    if min(grey.shape[1:]) > 2:
        inner = grey[:, 1:-1, 1:-1]
        laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
        found["sharpness"] = float(laplacian.var((1, 2)).mean())
    return {name: value if value is None else round(value, 3) for name, value in found.items()}


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
