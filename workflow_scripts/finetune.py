"""Rule finetune: fine-tune the base on the training split, or resume an interrupted run, and plot its log.

Started from ``shell:``. For several processes, it starts itself again in each.
"""

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.checksums import write_sums
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import json_digest, read_json, write_json, write_records
from mobilevideogpt.log import log_to
from mobilevideogpt.model.model_paths import ModelPaths, read_base, read_base_ahead
from mobilevideogpt.processes import terminate_with_launcher
from mobilevideogpt.recorded_settings import FILE, GROUPS, as_given
from mobilevideogpt.training.checkpoints import finished, locked, lost_beside, read_preflight, recorded_content
from mobilevideogpt.training.digests import deepspeed_digest, run_digests
from mobilevideogpt.training.launch import (
    leaving_process_group,
    quiet_libraries,
    quiet_transformers,
    run_on_nodes,
    run_processes,
)
from mobilevideogpt.training.plan import is_first_process, plan_launch, resolve_precision
from mobilevideogpt.training.settings import TrainingSettings

DEEPSPEED_CONFIGS = Path(__file__).resolve().parents[1] / "config"


def json_or_file(text: str) -> dict:
    """Return the object that an argument is, or that the file which it names contains."""
    return json.loads(text) if text.lstrip().startswith("{") else read_json(text, shape=dict)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configuration", required=True, help="all settings: JSON, or a file that contains it")
    parser.add_argument("--settings", help="finetune settings; by default those of the configuration")
    parser.add_argument("--train", required=True, help="samples to learn from")
    parser.add_argument("--val", required=True, help="samples of the validation loss")
    parser.add_argument("--features", required=True, help="folder of the cached features")
    parser.add_argument("--uncached", metavar="DTYPE", help="compute features in training, rounded to this precision")
    parser.add_argument("--base", required=True, help="base.json: paths of base and encoders, and their files")
    parser.add_argument("--run-folder", required=True, help="folder of checkpoints and adapter")
    parser.add_argument("--output", required=True, help="train.json, written last")
    parser.add_argument("--preflight", help="preflight.json, whose rehearsal limits finetune.batch_size: auto")
    parser.add_argument("--log", required=True)
    parser.add_argument("--code-hash", default="", help="digest of the code that trains")
    parser.add_argument("--digest", help="of all that affects the result; by default computed from the inputs")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    terminate_with_launcher()
    first = is_first_process()
    log_to(options.log if first else f"{options.log}.{os.environ['RANK']}")
    quiet_libraries()
    if not first:  # the terminal is the first one's
        logging.root.removeHandler(next(h for h in logging.root.handlers if type(h) is logging.StreamHandler))
    configuration = json_or_file(options.configuration)
    given = json_or_file(options.settings) if options.settings else configuration["finetune"]
    settings = TrainingSettings.from_dict(given)
    train, val = read_samples(options.train), read_samples(options.val)
    if "RANK" in os.environ:  # the process that started this one has verified it
        base, verify = read_base(options.base, verified=False), None
    else:
        base, verify = read_base_ahead(options.base)
    model = ModelPaths.from_mapping(base)
    deepspeed = deepspeed_digest(settings.deepspeed, DEEPSPEED_CONFIGS)
    digests = run_digests(settings.result_affecting(), train, val, base, options.code_hash, deepspeed)
    digest = options.digest or json_digest(digests)
    settings = resolve_precision(settings)
    if "auto" in (settings.batch_size, settings.deepspeed):
        from mobilevideogpt.training.resolve import resolve_by_memory

        there = options.preflight and Path(options.preflight).exists()
        preflight = read_preflight(options.preflight) if there else {}
        settings = resolve_by_memory(
            settings, model=model, train=train, preflight=preflight, run_folder=options.run_folder, digest=digest
        )
    if "RANK" not in os.environ and (launch := plan_launch(settings)).processes > 1:
        with locked(Path(options.run_folder)):  # so that one process reports it, not each; the first locks it again
            done = finished(options.run_folder, digest, settings.keep) and not lost_beside(options.run_folder)
        if not done:
            verify()
            resolved = json.dumps(asdict(settings) | {"processes": launch.processes})
            command = [__file__, *sys.argv[1:], "--digest", digest, "--settings", resolved]
            if launch.nodes > 1:
                sys.exit(run_on_nodes(launch, command, settings.hostfile))
            sys.exit(run_processes(launch.processes, command))

    quiet_transformers()
    from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
    from mobilevideogpt.data.processor import MobileVideoGPTProcessor
    from mobilevideogpt.training.finetune import finetune

    if verify:
        verify()
    store = FeatureStore(options.features)
    if options.uncached:
        processor = MobileVideoGPTProcessor.from_pretrained(model.base)
        store = UncachedFeatures(options.features, processor, dtype=options.uncached)
    with leaving_process_group():
        record = finetune(
            settings,
            model=model,
            train=train,
            val=val,
            store=store,
            run_folder=options.run_folder,
            digest=digest,
            digests=digests,
            configuration=configuration,
            deepspeed_configs=DEEPSPEED_CONFIGS,
        )
    if first:
        from mobilevideogpt.training.curves import plot_training

        folder = Path(options.run_folder)
        plot_training(folder / record["logs"]["steps"], folder / "plots")
        for name, samples in (("train", train), ("val", val)):  # the shared lists change with the next split
            write_records(samples, folder / f"samples/{name}.json")
        for name in ("plots", "samples"):
            write_sums(folder / name)
        if set(GROUPS) <= configuration.keys():  # of a rule: a call by hand may name finetune alone
            write_json(as_given(configuration), folder / FILE)
        write_json(record | {"adapter_content": recorded_content(folder / record["adapter"])}, options.output)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        logging.error("%s", error)
        if not is_first_process():
            print(f"ERROR: {error}", file=sys.stderr)
        sys.exit(1)
