"""Clips that are damaged, or would be shown wrongly, in a run that is told to go on."""

import os
import subprocess
import sys

import av

from mobilevideogpt.files import file_digest


def give_oblong_pixels(path):
    """Write the clip's packets to a file that declares pixels twice as wide as high."""
    source_path = path.with_suffix(".old.mp4")
    path.rename(source_path)
    with av.open(str(source_path)) as source, av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=source.streams.video[0].average_rate)
        template = source.streams.video[0]
        stream.width, stream.height, stream.pix_fmt = template.width, template.height, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for frame in source.decode(video=0):
            frame.pict_type = 0
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode())
    source_path.unlink()


def test_a_damaged_clip_is_left_out_and_an_oblong_one_is_used_re_encoded(fresh):
    damaged, oblong = fresh / "dataset/squats/0002.mp4", fresh / "dataset/squats/0003.mp4"
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    give_oblong_pixels(oblong)
    before = file_digest(oblong)
    fresh.configure(integrity={"on_error": "leave_out", "use_normalised": True})
    outcome = fresh.run("features")
    assert {"reencode", "build_annotations", "features"} <= outcome.finished
    report = {clip["video"]: clip for clip in fresh.json("results/verify/report.json")["clips"]}
    new = "results/reencoded/squats/0003.mp4"
    assert report["dataset/squats/0003.mp4"]["file"] == new
    assert report["dataset/squats/0003.mp4"]["digest"] == file_digest(fresh / new) != before == file_digest(oblong)
    used = [
        row["video"]
        for split in ("train", "val", "test")
        for row in fresh.json(f"results/annotations/qved_{split}.json")
    ]
    assert len(used) == 7 and "dataset/squats/0002.mp4" not in used
    listed = fresh.json("results/annotations/summary.json")["findings"]
    assert any("dataset/squats/0002.mp4: is damaged" in item for finding in listed for item in finding["items"])
    assert len(list((fresh / "results/features").rglob("*.safetensors"))) == 7
    verified = fresh.snakemake("verify")
    assert verified.status == 0, verified.text
    assert "1 with an error, which is left out" in (fresh / "results/verify/report.md").read_text()


def test_a_clip_that_may_not_be_read_costs_one_record(fresh):
    (fresh / "dataset/squats/0002.mp4").chmod(0)
    powers = "-dac_override,-dac_read_search"  # what lets root read any file
    under = ["setpriv", "--bounding-set", powers, "--inh-caps", powers] if os.geteuid() == 0 else []
    target = "results/verify/clips/squats/0002.mp4.json"
    command = [*under, sys.executable, "-m", "snakemake", "--cores", "1", target]
    done = subprocess.run(command, cwd=fresh.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "is not readable; run `chmod u+r" in fresh.json(target)["problems"][0]
