"""Rule finetune: fine-tune the base on the training split, or go on where a run stopped, and plot the log.

Started from ``shell:``. Where several processes train together, it starts itself again in each.
"""

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import json_digest, read_json, write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.training.arguments import for_this_gpu, plan_launch
from mobilevideogpt.training.settings import TrainingSettings
from mobilevideogpt.training.launch import run_processes, stop_with_who_waits

CONFIGS = Path(__file__).resolve().parents[1] / "config"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="the finetune settings: JSON, or a file that holds it")
    parser.add_argument("--train", required=True, help="annotations to learn from")
    parser.add_argument("--val", required=True, help="annotations of the validation loss")
    parser.add_argument("--features-index", required=True, nargs="+", help="JSON: clip to the key of its features")
    parser.add_argument("--features", required=True, help="folder of the features")
    parser.add_argument("--uncached", metavar="DTYPE", help="features are not kept: compute them, rounded to this")
    parser.add_argument("--base", required=True, help="JSON: base, video_encoder, image_encoder and their files")
    parser.add_argument("--run-folder", required=True, help="where checkpoints and the adapter go")
    parser.add_argument("--output", required=True, help="train.json, written last")
    parser.add_argument("--preflight", help="JSON: what the preflight found, for finetune.batch_size: auto")
    parser.add_argument("--log", required=True)
    parser.add_argument("--code-hash", default="", help="digest of the code that trains")
    parser.add_argument("--digest", help="of all that shapes the adapter; by default computed from the inputs")
    return parser.parse_args()


def digests_of(options, settings, base, train, val, features) -> dict[str, str]:
    """Digest each part of what shapes the adapter, whatever the files' names and dates."""
    return {
        "settings": json_digest(settings.result_affecting()),
        "data": json_digest({"train": train, "val": val}),
        "features": json_digest({record["video"]: features.get(record["video"]) for record in train + val}),
        "base": json_digest(sorted(base["files"].values())),
        "code": options.code_hash,
    }


def fitted(options, settings: TrainingSettings, base, train, digest) -> TrainingSettings:
    """Put numbers where ``finetune.batch_size`` is ``auto``: those of before, else the most that fit."""
    from mobilevideogpt.data.processor import MobileVideoGPTProcessor
    from mobilevideogpt.training.finetune import device_name
    from mobilevideogpt.training.micro_batch import fit_batch, longest_text, micro_batch_before

    if "RANK" in os.environ:
        raise InputError("finetune.batch_size: auto, but the processes were started already; set it to a number")
    rehearsed = read_json(options.preflight) if options.preflight and Path(options.preflight).exists() else {}
    here = rehearsed.get("device") == device_name() and rehearsed.get("batch")
    if here and rehearsed["batch"]["gradient_checkpointing"]:
        settings = replace(settings, gradient_checkpointing=True)
    processor = MobileVideoGPTProcessor.from_pretrained(base["base"])
    _, text = longest_text(train, processor, settings.max_text_tokens)
    return fit_batch(
        settings,
        plan_launch(settings),
        base["base"],
        text,
        most=rehearsed["batch"]["micro"] if here else None,
        before=micro_batch_before(options.run_folder, digest),
    )


def quiet() -> None:
    """Keep the libraries' own notices off the terminal; to be called before they are imported."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found none
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def main() -> None:
    options = parse_arguments()
    stop_with_who_waits()
    first = int(os.environ.get("RANK", 0)) == 0
    log_to(options.log if first else f"{options.log}.{os.environ['RANK']}")
    quiet()
    if not first:  # the terminal is the first one's
        logging.root.removeHandler(next(h for h in logging.root.handlers if type(h) is logging.StreamHandler))
    text = options.settings
    given = json.loads(text) if text.lstrip().startswith("{") else read_json(text)
    settings = TrainingSettings.from_dict(given)
    train, val = read_samples(options.train), read_samples(options.val)
    features = {clip: key for index in options.features_index for clip, key in read_json(index).items()}
    base = read_json(options.base)
    digests = digests_of(options, settings, base, train, val, features)
    digest = options.digest or json_digest(digests)
    settings = for_this_gpu(settings)
    if settings.batch_size == "auto":
        settings = fitted(options, settings, base, train, digest)
    if "RANK" not in os.environ and (processes := plan_launch(settings).processes) > 1:
        from mobilevideogpt.training.finetune import finished, locked

        with locked(Path(options.run_folder)):  # refuse here, in one voice; the first child takes the lock again
            done = finished(options.run_folder, digest, settings.keep)
        if not done:
            resolved = json.dumps(asdict(settings) | {"processes": processes})
            command = [__file__, *sys.argv[1:], "--digest", digest, "--settings", resolved]
            sys.exit(run_processes(processes, command))

    from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
    from mobilevideogpt.data.processor import MobileVideoGPTProcessor
    from mobilevideogpt.training.finetune import finetune

    store = FeatureStore(options.features)
    if options.uncached:
        processor = MobileVideoGPTProcessor.from_pretrained(base["base"])
        store = UncachedFeatures(options.features, processor, dtype=options.uncached)
    record = finetune(
        settings,
        base=base["base"],
        video_encoder=base["video_encoder"],
        image_encoder=base["image_encoder"],
        train=train,
        val=val,
        features=features,
        store=store,
        run_folder=options.run_folder,
        digest=digest,
        digests=digests,
        deepspeed_configs=CONFIGS,
    )
    if first:
        from mobilevideogpt.training.curves import plot_training

        plot_training(record["logs"]["steps"], Path(options.run_folder) / "plots")
        write_json(record, options.output)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        logging.error("%s", error)
        if int(os.environ.get("RANK", 0)):
            print(f"ERROR: {error}", file=sys.stderr)
        sys.exit(1)
