"""Decode every frame of a video and print what was found as JSON: the child that `integrity.probe` can kill.

FFmpeg's own error messages go to standard error; the parent takes any as damage, as ``ffmpeg -v error -f null`` would.
"""

import json
import sys


def main(path: str, memory_bytes: int) -> None:
    """Decode ``path`` under a limit of address space, and print the record's fields."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    except (ImportError, ValueError, OSError):
        pass  # no such limit on this system; the time limit holds
    import av

    av.logging.set_level(av.logging.ERROR)
    av.logging.restore_default_callback()
    found = {"frames": 0, "corrupt": 0, "errors": []}
    try:
        # a file is data: a playlist in disguise may open no other file and no connection
        with av.open(path, options={"protocol_whitelist": "file"}) as container:
            if container.streams.video:
                decode(container, found)
    except (av.error.FFmpegError, MemoryError, ValueError) as error:
        found["errors"].append(getattr(error, "strerror", None) or repr(error))
    print(json.dumps(found))


def decode(container, found: dict) -> None:
    """Count the frames of the first video stream into ``found``."""
    import av

    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1  # a job has one core
    rate = stream.average_rate
    found |= {
        "codec": stream.codec_context.codec.canonical_name,
        "width": stream.codec_context.width,
        "height": stream.codec_context.height,
        "frames_declared": stream.frames or None,
        "fps": float(rate) if rate else None,
        "seconds": container.duration / av.time_base if container.duration else None,
        "rotation": 0,
    }
    for packet in container.demux(stream):
        try:
            for frame in packet.decode():
                found["rotation"] = found["rotation"] or frame.rotation
                found["frames"] += 1
                found["corrupt"] += bool(frame.is_corrupt)
        except (av.error.FFmpegError, MemoryError) as error:
            found["errors"].append(getattr(error, "strerror", None) or repr(error))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
