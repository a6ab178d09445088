import json

import pytest
import torch

from mobilevideogpt.data.features import FeatureStore, UncachedFeatures, extract_features
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.files import file_digest, write_json
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import load_encoders
from mobilevideogpt.sample.render import ClipSpec, write_clip
from mobilevideogpt.training.finetune import finetune
from mobilevideogpt.training.preflight import preflight


@pytest.fixture(scope="module")
def clips(project, tmp_path_factory):
    """Records, keys and store of clips that are there, with features kept in float16."""
    folder = tmp_path_factory.mktemp("clips")
    records = []
    for n, record in enumerate(project.train[:4]):
        write_clip(ClipSpec("squats", seed=(n,)), folder / f"{n}.mp4")
        records.append(record | {"video": str(folder / f"{n}.mp4")})
    encoders = load_encoders(ModelPaths(project.base))
    processor = MobileVideoGPTProcessor.from_pretrained(project.base)
    digests = {record["video"]: file_digest(record["video"]) for record in records}
    store = FeatureStore(folder / "features")
    settings = {"dtype": "float16"}
    reader = processor.frame_reader
    keys = extract_features(encoders, reader, digests, store, "encoders", settings, 4)
    write_json({key: video for video, key in keys.items()}, store.folder / "clips.json")
    return records, keys, store


def test_without_kept_features_training_sees_the_same_losses(clips, project, tmp_path):
    records, keys, store = clips
    processor = MobileVideoGPTProcessor.from_pretrained(project.base)
    losses = {}
    for kind, its_store in (
        ("kept", store),
        ("computed", UncachedFeatures(store.folder, processor, dtype="float16")),
    ):
        finetune(
            project.settings(num_workers=1 if kind == "computed" else 0),
            base=project.base,
            train=records[:3],
            val=records[3:],
            features=keys,
            store=its_store,
            run_folder=tmp_path / kind,
            digest="one",
        )
        log = [json.loads(line) for line in (tmp_path / kind / "log.jsonl").read_text().splitlines()]
        losses[kind] = [entry.get("loss", entry.get("eval_loss")) for entry in log[:-1]]
    assert len(losses["kept"]) == 4 + 3  # steps, and validation before them and after each epoch
    assert losses["computed"] == pytest.approx(losses["kept"], rel=1e-5)


def test_without_kept_features_the_evaluation_reads_the_same(clips, project):
    _, keys, store = clips
    encoders, processor = load_encoders(ModelPaths(project.base)), MobileVideoGPTProcessor.from_pretrained(project.base)
    computed = UncachedFeatures(store.folder, processor, encoders, "float16")
    for key in keys.values():
        assert key in computed and "another" not in computed
        for name, tensor in computed.read(key).items():
            kept = store.read(key)[name]
            assert tensor.dtype == kept.dtype == torch.float16
            torch.testing.assert_close(tensor, kept, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_kept_features_the_rehearsal_encodes(project, tmp_path):
    options = {"base": project.base, "run_folder": tmp_path, "allow_cpu": True, "min_free_disk_gb": 0}
    report = preflight(project.settings(), **options, encode=True)
    assert report["ok"] and report["rehearsed_bytes"], report["checks"]
