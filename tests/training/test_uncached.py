import json
import shutil
from functools import partial

import pytest
import torch

from mobilevideogpt.data.extraction import extract_features
from mobilevideogpt.data.feature_files import write_clip_list
from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.data.samples import ClipFile
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest
from mobilevideogpt.model.modeling import load_encoders
from mobilevideogpt.sample.render import ClipSpec, write_clip
from mobilevideogpt.training.finetune import finetune
from mobilevideogpt.training.preflight import FeatureFiles, preflight
from mobilevideogpt.video.frames import clip_frames


@pytest.fixture(scope="module")
def clips(project, tmp_path_factory):
    """Samples of rendered clips, and the store of their features, cached in float16."""
    folder = tmp_path_factory.mktemp("clips")
    samples = []
    for n, sample in enumerate(project.train[:4]):
        write_clip(ClipSpec("squats", seed=(n,)), folder / f"{n}.mp4")
        samples.append(sample | {"video": str(folder / f"{n}.mp4"), "features": f"{n:064}"})
    processor = MobileVideoGPTProcessor.from_pretrained(project.base)
    reader = partial(clip_frames, min_frames=processor.min_frames, max_frames=processor.max_frames)
    digests = {sample["video"]: file_digest(sample["video"]) for sample in samples}
    files = {sample["features"]: sample["video"] for sample in samples}
    store = FeatureStore(folder / "features")
    encoders = load_encoders(project.paths, "bf16")  # which the list names, for runs without a cache
    frames = (reader(path, digests[path]) for path in files.values())
    extract_features(encoders, frames, files, store, dtype="float16", batch_size=4)
    write_clip_list(store.folder, {key: ClipFile(path, digests[path]) for key, path in files.items()}, "bf16")
    return samples, store


def test_without_cached_features_training_sees_the_same_losses(clips, project, tmp_path):
    samples, store = clips
    processor = MobileVideoGPTProcessor.from_pretrained(project.base)
    losses = {}
    for kind, its_store in (
        ("cached", store),
        ("computed", UncachedFeatures(store.folder, processor, dtype="float16")),
    ):
        finetune(
            project.settings(num_workers=1 if kind == "computed" else 0),
            model=project.paths,
            train=samples[:3],
            val=samples[3:],
            store=its_store,
            run_folder=tmp_path / kind,
            digest="one",
        )
        log = [json.loads(line) for line in (tmp_path / kind / "log.jsonl").read_text().splitlines()]
        losses[kind] = [entry.get("loss", entry.get("eval_loss")) for entry in log[:-1]]
    assert len(losses["cached"]) == 4 + 3  # steps, and validation before them and after each epoch
    assert losses["computed"] == pytest.approx(losses["cached"], rel=1e-5)


def test_without_cached_features_the_evaluation_reads_the_same(clips, project):
    samples, store = clips
    encoders, processor = load_encoders(project.paths), MobileVideoGPTProcessor.from_pretrained(project.base)
    computed = UncachedFeatures(store.folder, processor, encoders, "float16")
    for key in (sample["features"] for sample in samples):
        assert key in computed and "another" not in computed
        for name, tensor in computed.read(key).items():
            cached = store.read(key)[name]
            assert tensor.dtype == cached.dtype == torch.float16
            torch.testing.assert_close(tensor, cached, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_cached_features_the_rehearsal_encodes(project, tmp_path):
    options = {"model": project.paths, "run_folder": tmp_path, "allow_cpu": True, "min_free_disk_gb": 0}
    report = preflight(project.settings(), **options, features=FeatureFiles(encode=True))
    assert report["ok"] and report["rehearsed_bytes"], report["checks"]


def test_without_cached_features_a_clip_that_changes_during_the_training_is_named(clips, project, tmp_path):
    samples, _ = clips
    clip, key = tmp_path / "0.mp4", samples[0]["features"]
    shutil.copy(samples[0]["video"], clip)
    write_clip_list(tmp_path, {key: ClipFile(str(clip), file_digest(clip))}, "fp32")
    uncached = UncachedFeatures(tmp_path, MobileVideoGPTProcessor.from_pretrained(project.base))
    uncached.read(key)
    shutil.copy(samples[1]["video"], clip)
    with pytest.raises(InputError, match=r"0\.mp4: the file changed after it was checked; run the same command again"):
        uncached.read(key)
