"""Long recordings, each with several exercises, through the whole run."""

import shutil

import av
import pytest

from mobilevideogpt.files import write_json
from mobilevideogpt.segments import file_of
from tests.workflow.conftest import ROOT


def join_clips(paths, target):
    """Write the frames of all clips, one after the other, to one file; return the seconds at which each begins."""
    starts, number = [], 0
    with av.open(str(target), "w") as sink:
        stream = None
        for path in paths:
            with av.open(str(path)) as source:
                template = source.streams.video[0]
                rate = template.average_rate
                if stream is None:
                    stream = sink.add_stream("libx264", rate=rate)
                    stream.width, stream.height, stream.pix_fmt = template.width, template.height, "yuv420p"
                starts.append(float(number / rate))
                for frame in source.decode(template):
                    new = frame.reformat(format="yuv420p")
                    new.pts, new.time_base, new.pict_type = number, 1 / rate, 0
                    sink.mux(stream.encode(new))
                    number += 1
        sink.mux(stream.encode())
    return [*starts, float(number / rate)]


@pytest.mark.slow
def test_segments_of_long_recordings_go_through_the_whole_run(fresh):
    dataset, base = fresh / "dataset", fresh / "mobilevideogpt/sample/base"
    shutil.rmtree(base)  # whose weights are random; the sample's own answers in words
    shutil.copytree(ROOT / "mobilevideogpt/sample/base", base)
    labels = {label["video_path"]: label for label in fresh.json("dataset/fine_grained_labels.json")}
    manifest, new_labels = [], []
    for number in range(1, 5):
        names = [f"{exercise}/{number:04d}.mp4" for exercise in ("squats", "tricep_stretch")]
        starts = join_clips([dataset / name for name in names], dataset / f"person_{number}.mp4")
        for name, start, end in zip(names, starts, starts[1:], strict=False):
            place = {"start": round(start, 3), "end": round(end, 3)}
            manifest.append({"path": f"person_{number}.mp4", "exercise": name.split("/")[0], **place})
            new_labels.append({**labels[name], "video_path": f"person_{number}.mp4", **place})
            (dataset / name).unlink()
    write_json(manifest, dataset / "manifest.json")
    write_json(new_labels, dataset / "fine_grained_labels.json")
    outcome = fresh.run("report")
    assert {"probe_clip", "features", "finetune", "evaluate", "report"} <= outcome.finished
    assert len(list((fresh / "results/verify/clips").rglob("*.json"))) == 4  # a file is decoded once
    report = fresh.json("results/verify/report.json")
    assert len(report["clips"]) == 8 and {clip["verdict"] for clip in report["clips"]} == {"ok"}
    samples = {split: fresh.json(f"results/features/{split}.json") for split in ("train", "val", "test")}
    files = {split: {file_of(sample["video"]) for sample in of_split} for split, of_split in samples.items()}
    assert sum(map(len, files.values())) == len(set.union(*files.values())) == 4  # a recording is in one split
    assert len({sample["features"] for of_split in samples.values() for sample in of_split}) == 8
    page = (fresh / "results/tiny/report.html").read_text(encoding="utf-8")
    shown = samples["test"][0]["video"]
    assert f'src="../../{shown}"' in page
    assert fresh.run("report").is_settled
    answer = fresh.run("infer", "--config", f"video={shown}", "--quiet", "all")
    assert answer.out.strip()
    manifest[0]["end"] -= 0.5
    new_labels[0]["end"] -= 0.5
    write_json(manifest, dataset / "manifest.json")
    write_json(new_labels, dataset / "fine_grained_labels.json")
    again = fresh.run("features")
    assert "probe_clip" in again.finished and len(list((fresh / "results/features").glob("??/*.safetensors"))) == 9
