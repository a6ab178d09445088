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
from mobilevideogpt.video.clip_check import check_clip, check_clips
from mobilevideogpt.video.clip_check_messages import Kind, Message
from mobilevideogpt.video.clip_status import FIELDS, out_of_bounds
from mobilevideogpt.video.decoding import read_frames
from mobilevideogpt.video.frames import clip_frames
from mobilevideogpt.video.reencode_worker import reencode
from tests.video.corpus import FLIP_RATES, MATRICES, broken_clips, draw, good_clips, unusual_clips, with_display_matrix


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A whole clip whose index comes first, as on the web."""
    return good_clips(tmp_path_factory.mktemp("clips"))["first"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> dict[str, dict]:
    """Clip checks of broken clips, by name."""
    folder = tmp_path_factory.mktemp("broken")
    paths = broken_clips(folder, cuts=6)
    return {path.stem: check for path, check in check_clips(paths, workers=2, timeout_seconds=20)}


@pytest.fixture(scope="module")
def unusual(tmp_path_factory) -> dict[str, tuple[Path, dict]]:
    """Unusual clips and their clip checks, by name."""
    paths = unusual_clips(tmp_path_factory.mktemp("unusual"), large=(4160, 2320))
    return {path.stem: (path, check) for path, check in check_clips(paths, workers=2)}


def test_a_whole_clip_is_ok_and_described(good):
    check = check_clip(good)
    assert list(check) == list(FIELDS)
    assert (check["verdict"], check["problems"], check["reencode"]) == ("ok", [], [])
    assert (check["frames"], check["frames_declared"], check["fps"], check["codec"]) == (40, 40, 30.0, "h264")
    assert (check["width"], check["height"], check["rotation"]) == (160, 120, 0)
    assert "mp4" in check["container"] and check["decode_errors"] == 0
    assert check["seconds"] == pytest.approx(40 / 30, abs=0.05)
    assert check["bytes"] == good.stat().st_size and len(check["digest"]) == 64
    assert check_clip(good) == check


def test_a_clip_of_which_the_model_sees_little_is_a_warning(unusual, tmp_path):
    path, slowing = unusual["slowing"]
    assert slowing["reencode"] == ["rate"] and slowing["seen"] == pytest.approx(0.25, abs=0.01)
    assert "varying frame rate" in slowing["problems"][0] and "(25% is seen)" in slowing["problems"][0]
    reencode(path, tmp_path / "new.mp4", slowing["reencode"])
    constant = check_clip(tmp_path / "new.mp4")
    assert (constant["frames"], constant["fps"], constant["reencode"]) == (841, 30.0, [])
    assert constant["seen"] == pytest.approx(15 / 28, abs=0.01)
    _, short = unusual["short"]
    assert short["problems"][0].startswith("the model receives the first 16 of its 24 frames and none after them")
    _, long = unusual["long"]
    assert long["problems"][0].startswith("the model receives 16 frames, which show 53% of its time; cut it into clips")
    assert unusual["variable_rate"][1]["problems"] == []


@pytest.mark.parametrize("frames", [16, 17, 30, 31])
def test_only_clips_of_up_to_twice_the_frames_end_unseen(tmp_path, frames):
    check = check_clip(draw(tmp_path / "clip.mp4", frames=frames))
    assert check["verdict"] == ("warning" if frames in (17, 30) else "ok")


def test_a_clip_check_does_not_depend_on_what_was_decoded_before(tmp_path):
    paths = [path for path in [*broken_clips(tmp_path, cuts=2), *unusual_clips(tmp_path, (96, 64))] if path.is_file()]
    forth, back = (dict(check_clips(order, workers=1)) for order in (paths, paths[::-1]))
    assert forth == back


def test_every_broken_clip_is_an_error_with_a_remedy(broken):
    assert len(broken) == 2 * (6 + len(FLIP_RATES)) + 10
    readable_by_root = {"unreadable"} if os.geteuid() == 0 else set()
    # a flipped bit may change nothing that is decoded; FFmpeg finds no fault either
    subtle = {f"flipped_{name}_{FLIP_RATES[0]:g}_0" for name in ("first", "last")}
    fine = {name for name, check in broken.items() if check["verdict"] != "error"}
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
        "playlist": "is not a decodable video",
        "flipped_first_1e-05_0": "of 40 frames decode intact",
    }.items(),
)
def test_the_message_says_what_is_wrong(broken, name, text):
    assert text in broken[name]["problems"][0]


def test_a_codec_that_nobody_knows_is_named(good, tmp_path):
    path = tmp_path / "unknown.mp4"
    path.write_bytes(good.read_bytes().replace(b"avc1", b"zzz1"))
    [problem] = check_clip(path)["problems"]
    assert "codec of its video stream is unknown" in problem
    with pytest.raises(InputError, match="codec of its video stream is unknown"):
        read_frames(path)


def test_equal_damage_gives_an_equal_clip_check(tmp_path):
    broken_clips(tmp_path, cuts=1)  # an equal clip check reruns nothing
    # Which bits the flips meet depends on the encoder's processor: some decoders then stop without a word.
    rotten = sorted(tmp_path.glob("flipped_*.mp4"))
    checks = [check_clip(path) for path in rotten]
    assert {check["verdict"] for check in checks} == {"error"} and max(check["decode_errors"] for check in checks) > 0
    assert [check_clip(path) for path in rotten] == checks


def test_unusual_clips_are_usable_and_the_training_reads_them(unusual):
    warned = {"one_frame", "large", "short", "long", "slowing", "rotated_mirrored", "ten_bit"}
    for name, (path, check) in unusual.items():
        assert check["verdict"] == ("warning" if name in warned else "ok"), check["problems"]
        assert len(clip_frames(path, check["digest"], 16, 16)["pixel_values_videos"]) == min(16, check["frames"]), name
    assert "has 1 frame, fewer than the 16" in unusual["one_frame"][1]["problems"][0]
    assert "9.4 million pixels" in "".join(unusual["large"][1]["problems"])
    found = {name: check["codec"] for name, (_, check) in unusual.items()}
    assert {"hevc": "hevc", "av1": "av1", "vp9": "vp9", "full_range": "mjpeg"}.items() <= found.items()
    assert "matroska" in unusual["matroska"][1]["container"]
    assert {abs(unusual[f"rotated_{name}"][1]["rotation"]) for name in MATRICES} == {90, 180}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sample_aspect_ratio": 2}, "pixels"),
        ({"color_trc": 18, "color_primaries": 9, "colorspace": 9}, "hdr"),
        ({"options": {"x264-params": "tff=1"}}, "interlaced"),
    ],
)
def test_what_would_be_shown_wrongly_is_a_warning_with_the_command_that_fixes_it(tmp_path, change, reason):
    clip = draw(tmp_path / "my clip's.mp4", **change)
    check = check_clip(clip)
    assert (check["verdict"], check["reencode"]) == ("warning", [reason])
    assert "`snakemake reencode`" in check["problems"][0]
    assert f"ffmpeg -i '{tmp_path}/my clip'\"'\"'s.mp4' -vf " in check["problems"][0]


def test_a_rotation_by_another_angle_than_a_right_one_is_a_warning(good, tmp_path):
    data = with_display_matrix(good, tmp_path / "oblique.mp4", (1, 1, -1, 1))
    assert check_clip(data)["reencode"] == ["oblique"]


def test_quality_is_measured_and_compared_only_with_bounds_that_are_set(tmp_path):
    moving, still = draw(tmp_path / "moving.mp4"), draw(tmp_path / "still.mp4", still=True)
    checks = [check_clip(clip) for clip in (moving, still)]
    assert [check["verdict"] for check in checks] == ["ok", "ok"]
    assert all(100 < check["brightness"] < 156 and check["sharpness"] > 1000 for check in checks)
    assert checks[0]["motion"] > 10 and checks[1]["motion"] < 1
    assert out_of_bounds(checks[1], {"motion": (None, None)}) == []
    bounds = {"motion": (1, None), "brightness": (None, 200)}
    assert out_of_bounds(checks[0], bounds) == []
    [problem] = out_of_bounds(checks[1], bounds)
    assert "integrity.motion" in problem and "dataset.exclude" in problem


def test_a_link_out_of_the_data_set_is_an_error_and_one_within_is_not(good, tmp_path):
    root = tmp_path / "dataset"
    root.mkdir()
    (root / "out.mp4").symlink_to(good)
    shutil.copy(good, root / "real.mp4")
    (root / "in.mp4").symlink_to(root / "real.mp4")
    assert "leads out of" in check_clip(root / "out.mp4", data_root=root)["problems"][0]
    assert check_clip(root / "in.mp4", data_root=root)["verdict"] == "ok"


def test_a_playlist_in_disguise_opens_no_other_file(good, tmp_path):
    disguised = tmp_path / "list.mp4"
    disguised.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:{good}\n#EXT-X-ENDLIST\n")
    assert check_clip(disguised)["verdict"] == "error"


FAULTY = """
import os, signal, sys, threading, time
from mobilevideogpt.video import clip_check_worker
decode_clip = clip_check_worker.decode_clip
def unreadable(path, positions, packets):
    os.write(2, b"decord's own words")
    raise ValueError("decord finds no more frames")
    yield
def hanging(path, positions, packets):
    time.sleep(600)
    yield
def faulty(path, segments):
    name = os.path.basename(path)
    if name.startswith("hangs"):
        time.sleep(600)
    if name.startswith("thread"):
        threading.Thread(target=int, args=["no number"]).start()
        time.sleep(1)
    if name.startswith("crashes"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("ended"):
        os.kill(os.getpid(), int(name.split(".")[1]))
    if name.startswith("gives_up"):
        raise SystemExit("no decoder")
    if name.startswith("unread"):
        clip_check_worker.frames_at = unreadable if name == "unreadable.mp4" else hanging
    if name.startswith("eats"):
        eaten = []
        while True:
            eaten.append(os.urandom(10_000_000))
    return decode_clip(path, segments)
clip_check_worker.decode_clip = faulty
clip_check_worker.limit_memory = lambda memory_bytes: None  # as on macOS
clip_check_worker.main(float(sys.argv[1]), int(sys.argv[2]))
"""


def test_a_clip_that_hangs_crashes_or_eats_memory_fails_alone(good, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_check, "CHILD", [sys.executable, "-c", FAULTY])
    names = ["a", "hangs", "b", "crashes", "c", "gives_up", "d", "eats", "e"]
    paths = [Path(shutil.copy(good, tmp_path / f"{name}.mp4")) for name in names]
    before = psutil.Process().children()
    start = time.monotonic()
    completed = check_clips(paths, workers=2, timeout_seconds=2, memory_gb=0.3)
    checks = {path.stem: check for path, check in completed}
    assert time.monotonic() - start < 30
    assert {name for name, check in checks.items() if check["verdict"] == "ok"} == set("abcde")
    assert "was not decoded within 2 s" in checks["hangs"]["problems"][0]
    assert "crashed the decoder (signal 11)" in checks["crashes"]["problems"][0]
    assert "crashed the decoder (exit status 1: no decoder)" in checks["gives_up"]["problems"][0]
    assert "takes more than 0.3 GB" in checks["eats"]["problems"][0]
    assert all(check["digest"] == checks["a"]["digest"] for check in checks.values())
    assert psutil.Process().children() == before, "a worker is left"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_ended_from_outside_leaves_no_verdict_on_its_clip(number, good, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_check, "CHILD", [sys.executable, "-c", FAULTY])
    clip = Path(shutil.copy(good, tmp_path / f"ended.{number.value}.mp4"))
    with pytest.raises(InputError, match=rf"{clip}: .* ended by signal {number.value}, .* run the same command again"):
        check_clip(clip)


def test_a_thread_of_our_own_that_fails_leaves_no_verdict_on_the_clip(good, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_check, "CHILD", [sys.executable, "-c", FAULTY])
    with pytest.raises(InputError, match="the process that checked it was ended by signal 15"):
        check_clip(Path(shutil.copy(good, tmp_path / "thread.mp4")))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the parent's watch alone limits memory")
@pytest.mark.parametrize("count", [1, 31, 32, 63, 64, 65, 150, 1000])
def test_a_declared_length_saves_work_and_changes_no_thumbnail(count):
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
        print(json.dumps([str(large), []]), file=worker.stdin, flush=True)
        received = [Message.from_line(worker.stdout.readline()) for _ in range(3)]
        worker.kill()
    assert [message.kind for message in received] == [Kind.STARTED, Kind.FILE, Kind.OUT_OF_MEMORY]


def test_a_clip_that_only_decord_does_not_read_is_an_error_with_the_command_that_fixes_it(good, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_check, "CHILD", [sys.executable, "-c", FAULTY])
    paths = [Path(shutil.copy(good, tmp_path / f"{name}.mp4")) for name in ("unreadable", "unread_in_time")]
    checks = {path.stem: check_clip(path, timeout_seconds=2) for path in paths}
    assert [check["verdict"] for check in checks.values()] == ["error", "error"]
    assert checks["unreadable"]["reencode"] == ["reader"]
    expected = (
        "cannot be read by decord, which reads the model's frames (decord finds no more frames); re-encode it with"
    )
    assert expected in checks["unreadable"]["problems"][0]
    assert checks["unread_in_time"]["reencode"] == ["decoder"]
    assert "was not decoded within 2 s" in checks["unread_in_time"]["problems"][0]


def test_workers_that_do_not_start_raise_an_error_instead_of_failing_clips(good, monkeypatch):
    monkeypatch.setattr(clip_check, "CHILD", [sys.executable, "-c", "import no_such_module"])
    with pytest.raises(RuntimeError, match="No module named 'no_such_module'"):
        check_clip(good)


def test_no_worker_outlives_an_iteration_that_is_left(good):
    before = psutil.Process().children()
    completed = check_clips([good] * 3, workers=2)
    next(completed)
    assert psutil.Process().children() != before
    completed.close()
    assert psutil.Process().children() == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(good, tmp_path, how):
    clip = shutil.copy(good, tmp_path / "hangs.mp4")
    program = (
        "import sys; from mobilevideogpt.video import clip_check\n"
        "clip_check.CHILD = [sys.executable, '-c', sys.argv[1]]; clip_check.check_clip(sys.argv[2])"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, FAULTY, clip], stderr=subprocess.DEVNULL)
    while not (children := psutil.Process(parent.pid).children()):
        time.sleep(0.05)
    parent.send_signal(how)
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
