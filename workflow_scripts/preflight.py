"""Rule preflight: check the machine against the settings, and rehearse two steps of the fine-tuning."""

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.data.records import prompt_and_response, read_annotations
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json, write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.training.arguments import TrainingSettings
from mobilevideogpt.training.preflight import preflight

log_to(snakemake.log[0])
params = snakemake.params
base = read_json(snakemake.input.base)
processor = MobileVideoGPTProcessor.from_pretrained(base["base"])
texts = [processor.encode_text(*prompt_and_response(row)) for row in read_annotations(snakemake.input.train)]
longest = max(len(text["input_ids"]) for text in texts) - processor.num_visual_tokens
record = preflight(
    TrainingSettings.from_dict(params.finetune),
    base=base["base"],
    video_encoder=base["video_encoder"],
    image_encoder=base["image_encoder"],
    run_folder=params.run_folder,
    allow_cpu=params.allow_cpu,
    min_free_disk_gb=params.min_free_disk_gb,
    encode=params.encode,
    text_tokens=min(longest, params.finetune["max_text_tokens"]),
)
if not record["ok"]:
    wrong = [
        f"  {check['name']}: {check['detail']}; {check['remedy']}" for check in record["checks"] if not check["ok"]
    ]
    raise InputError("the fine-tuning would not run on this machine:\n" + "\n".join(wrong))
write_json(record, snakemake.output.record)
write_text("passed\n", snakemake.output.passed)
