import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.video import clip_check, clip_check_worker
from mobilevideogpt.video.clip_check import FIELDS, out_of_bounds, probe, probe_many
from mobilevideogpt.video.decoding import read_frames
from tests.video.corpus import FLIP_RATES, MATRICES, broken_clips, draw, good_clips, turned, unusual_clips


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A whole clip whose index stands first, as on the web."""
    return good_clips(tmp_path_factory.mktemp("clips"))["first"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> dict[str, dict]:
    """The records of broken clips, by name."""
    folder = tmp_path_factory.mktemp("broken")
    paths = broken_clips(folder, cuts=6)
    return {path.stem: record for path, record in probe_many(paths, workers=2, timeout_seconds=20)}


@pytest.fixture(scope="module")
def unusual(tmp_path_factory) -> dict[str, tuple[Path, dict]]:
    """Unusual clips and their records, by name."""
    paths = unusual_clips(tmp_path_factory.mktemp("unusual"), large=(4160, 2320))
    return {path.stem: (path, record) for path, record in probe_many(paths, workers=2)}


def test_a_whole_clip_is_ok_and_described(good):
    record = probe(good)
    assert list(record) == list(FIELDS)
    assert (record["verdict"], record["problems"], record["reencode"]) == ("ok", [], [])
    assert (record["frames"], record["frames_declared"], record["fps"], record["codec"]) == (40, 40, 30.0, "h264")
    assert (record["width"], record["height"], record["rotation"]) == (160, 120, 0)
    assert "mp4" in record["container"] and record["decode_errors"] == 0
    assert record["seconds"] == pytest.approx(40 / 30, abs=0.05)
    assert record["bytes"] == good.stat().st_size and len(record["digest"]) == 64
    assert probe(good) == record


def test_every_broken_clip_is_an_error_with_a_remedy(broken):
    assert len(broken) == 2 * (6 + len(FLIP_RATES)) + 10
    readable_by_root = {"unreadable"} if os.geteuid() == 0 else set()
    # a bit may be flipped where none looks; FFmpeg finds no fault either
    subtle = {f"flipped_{name}_{FLIP_RATES[0]:g}_0" for name in ("first", "last")}
    fine = {name for name, record in broken.items() if record["verdict"] != "error"}
    assert fine <= readable_by_root | subtle
    for name in broken.keys() - fine:
        assert "dataset.exclude" in broken[name]["problems"][0]


@pytest.mark.parametrize(
    ("name", "text"),
    {
        "sound": "there is no video stream",
        "text": "Invalid data",
        "empty": "is empty",
        "directory": "is a directory",
        "fifo": "is a pipe",
        "missing": "is not there",
        "dangling": "a link to a file that is not there",
        "playlist": "is no video",
        "flipped_first_1e-05_0": "of 40 frames decode intact",
    }.items(),
)
def test_the_message_says_what_is_broken(broken, name, text):
    assert text in broken[name]["problems"][0]


def test_a_codec_that_nobody_knows_is_named(good, tmp_path):
    path = tmp_path / "unknown.mp4"
    path.write_bytes(good.read_bytes().replace(b"avc1", b"zzz1"))
    [problem] = probe(path)["problems"]
    assert "codec of its video stream is unknown" in problem
    with pytest.raises(InputError, match="codec of its video stream is unknown"):
        read_frames(path)


def test_damage_is_told_in_the_same_words_each_time(tmp_path):
    broken_clips(tmp_path, cuts=1)  # equal records start nothing anew
    rotten = tmp_path / "flipped_last_0.001_0.mp4"
    record = probe(rotten)
    assert record["verdict"] == "error" and record["decode_errors"] > 0
    assert probe(rotten) == record


def test_unusual_clips_are_usable_and_the_training_reads_them(unusual):
    for name, (path, record) in unusual.items():
        assert record["verdict"] == ("warning" if name in ("one_frame", "large") else "ok"), record["problems"]
        assert len(read_frames(path)[0]) == min(16, record["frames"]), name
    assert "has 1 frame, fewer than the 16" in unusual["one_frame"][1]["problems"][0]
    assert "9.4 million pixels" in "".join(unusual["large"][1]["problems"])
    found = {name: record["codec"] for name, (_, record) in unusual.items()}
    assert {"hevc": "hevc", "av1": "av1", "vp9": "vp9", "full_range": "mjpeg"}.items() <= found.items()
    assert "matroska" in unusual["matroska"][1]["container"]
    assert {abs(unusual[f"turned_{name}"][1]["rotation"]) for name in MATRICES} == {90, 180}


@pytest.mark.parametrize(
    ("change", "need"),
    [
        ({"sample_aspect_ratio": 2}, "pixels"),
        ({"color_trc": 18, "color_primaries": 9, "colorspace": 9}, "hdr"),
        ({"options": {"x264-params": "tff=1"}}, "interlaced"),
    ],
)
def test_what_would_be_shown_wrongly_is_a_warning_with_the_command_that_mends_it(tmp_path, change, need):
    clip = draw(tmp_path / "my clip's.mp4", **change)
    record = probe(clip)
    assert (record["verdict"], record["reencode"]) == ("warning", [need])
    assert "`snakemake normalise`" in record["problems"][0]
    assert f"ffmpeg -i '{tmp_path}/my clip'\"'\"'s.mp4' -vf " in record["problems"][0]


def test_a_turn_by_no_right_angle_is_a_warning(good, tmp_path):
    data = turned(good, tmp_path / "oblique.mp4", (1, 1, -1, 1))
    assert probe(data)["reencode"] == ["oblique"]


def test_quality_is_measured_and_judged_only_by_the_bounds_that_are_set(tmp_path):
    moving, still = draw(tmp_path / "moving.mp4"), draw(tmp_path / "still.mp4", still=True)
    records = [probe(clip) for clip in (moving, still)]
    assert [record["verdict"] for record in records] == ["ok", "ok"]
    assert all(100 < record["brightness"] < 156 and record["sharpness"] > 1000 for record in records)
    assert records[0]["motion"] > 10 and records[1]["motion"] < 1
    assert out_of_bounds(records[1], {"motion": (None, None)}) == []
    bounds = {"motion": (1, None), "brightness": (None, 200)}
    assert out_of_bounds(records[0], bounds) == []
    [problem] = out_of_bounds(records[1], bounds)
    assert "integrity.motion" in problem and "dataset.exclude" in problem


def test_a_link_out_of_the_data_set_is_an_error_and_one_within_is_not(good, tmp_path):
    root = tmp_path / "dataset"
    root.mkdir()
    (root / "out.mp4").symlink_to(good)
    shutil.copy(good, root / "real.mp4")
    (root / "in.mp4").symlink_to(root / "real.mp4")
    assert "leads out of" in probe(root / "out.mp4", data_root=root)["problems"][0]
    assert probe(root / "in.mp4", data_root=root)["verdict"] == "ok"


def test_a_playlist_in_disguise_opens_no_other_file(good, tmp_path):
    disguised = tmp_path / "list.mp4"
    disguised.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:{good}\n#EXT-X-ENDLIST\n")
    assert probe(disguised)["verdict"] == "error"


FAULTY = """
import os, signal, sys, time
from mobilevideogpt.video import clip_check_worker
look = clip_check_worker.look
def faulty(path):
    name = os.path.basename(path)
    if name.startswith("hangs"):
        time.sleep(600)
    if name.startswith("crashes"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("gives_up"):
        raise SystemExit("no decoder")
    if name.startswith("eats"):
        eaten = []
        while True:
            eaten.append(os.urandom(10_000_000))
    return look(path)
clip_check_worker.look = faulty
clip_check_worker.limit_memory = lambda memory_bytes: None  # as on macOS
clip_check_worker.main(float(sys.argv[1]), int(sys.argv[2]))
"""


def test_a_clip_that_hangs_crashes_or_eats_memory_costs_one_record(good, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_check, "CHILD", [sys.executable, "-c", FAULTY])
    names = ["a", "hangs", "b", "crashes", "c", "gives_up", "d", "eats", "e"]
    paths = [Path(shutil.copy(good, tmp_path / f"{name}.mp4")) for name in names]
    before = psutil.Process().children()
    start = time.monotonic()
    checked = probe_many(paths, workers=2, timeout_seconds=2, memory_gb=0.3)
    records = {path.stem: record for path, record in checked}
    assert time.monotonic() - start < 30
    assert {name for name, record in records.items() if record["verdict"] == "ok"} == set("abcde")
    assert "was not decoded within 2 s" in records["hangs"]["problems"][0]
    assert "crashed the decoder (signal 11)" in records["crashes"]["problems"][0]
    assert "crashed the decoder (exit status 1: no decoder)" in records["gives_up"]["problems"][0]
    assert "takes more than 0.3 GB" in records["eats"]["problems"][0]
    assert all(record["digest"] == records["a"]["digest"] for record in records.values())
    assert psutil.Process().children() == before, "a worker stays"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the parent's watch alone limits memory")
@pytest.mark.parametrize("count", [1, 31, 32, 63, 64, 65, 150, 1000])
def test_a_declared_length_spares_work_and_changes_no_thumbnail(count):
    frames = [av.VideoFrame.from_ndarray(np.full((24, 32), i % 251, np.uint8), format="gray") for i in range(count)]
    found = []
    for declared in (0, count):
        thumbnails = clip_check_worker.Thumbnails(declared)
        for frame in frames:
            thumbnails.offer(frame)
        found.append((thumbnails.step, np.stack(thumbnails.pictures).tolist()))
    assert found[0] == found[1]


def test_a_worker_that_is_refused_memory_says_so(unusual):
    large, _ = unusual["large"]
    with subprocess.Popen([*clip_check.CHILD, "60", str(10**7)], stdin=-1, stdout=-1, stderr=-3, text=True) as worker:
        print(json.dumps(str(large)), file=worker.stdin, flush=True)
        _, _, refused = (json.loads(worker.stdout.readline()) for _ in range(3))
        worker.kill()
    assert refused == {"short_of_memory": True}


def test_workers_that_do_not_start_are_no_fault_of_the_clips(good, monkeypatch):
    monkeypatch.setattr(clip_check, "CHILD", [sys.executable, "-c", "import no_such_module"])
    with pytest.raises(RuntimeError, match="No module named 'no_such_module'"):
        probe(good)


def test_no_worker_outlives_an_iteration_that_is_left(good):
    before = psutil.Process().children()
    checked = probe_many([good] * 3, workers=2)
    next(checked)
    assert psutil.Process().children() != before
    checked.close()
    assert psutil.Process().children() == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(good, tmp_path, how):
    clip = shutil.copy(good, tmp_path / "hangs.mp4")
    program = (
        "import sys; from mobilevideogpt.video import clip_check\n"
        "clip_check.CHILD = [sys.executable, '-c', sys.argv[1]]; clip_check.probe(sys.argv[2])"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, FAULTY, clip], stderr=subprocess.DEVNULL)
    while not (children := psutil.Process(parent.pid).children()):
        time.sleep(0.05)
    parent.send_signal(how)
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
