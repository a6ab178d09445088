import os
import time

from mobilevideogpt.result_dates import bring_to_now

FUTURE = time.time() + 9 * 86400


def write(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    os.utime(path, (seconds, seconds))
    return path


def test_results_of_a_date_to_come_are_brought_to_now_and_the_others_stay(tmp_path):
    old, new = write(tmp_path / "tiny/train.json", 1e9), write(tmp_path / "tiny/metrics.json", FUTURE)
    assert bring_to_now([tmp_path, tmp_path / "none"]) == [new]
    assert old.stat().st_mtime == 1e9 < new.stat().st_mtime <= time.time()
    assert bring_to_now([tmp_path]) == []


def test_what_is_made_afterwards_is_newer_and_the_order_of_the_others_stays(tmp_path):
    inputs, outputs = (
        write(tmp_path / "verify/report.json", FUTURE),
        write(tmp_path / "features/train.json", FUTURE + 9),
    )
    bring_to_now([tmp_path])
    assert inputs.stat().st_mtime_ns <= outputs.stat().st_mtime_ns
    inputs.write_text("[]")
    assert inputs.stat().st_mtime_ns > outputs.stat().st_mtime_ns


def test_files_that_snakemake_does_not_compare_by_date_are_not_looked_at(tmp_path):
    for name in ("features/a0/a0.safetensors", "tiny/checkpoint-2/optimizer.pt", "tiny/adapter-best/weights"):
        write(tmp_path / name, FUTURE)
    assert bring_to_now([tmp_path]) == []
