"""Rule infer: print the fine-tuned model's answers about clips, and nothing else, on standard output."""

import sys

from mobilevideogpt.log import log_to
from mobilevideogpt.serving.answering import answer_on_terminal, stdout_copied_to
from mobilevideogpt.serving.finetuned import find_finetuned
from mobilevideogpt.serving.pipeline import LONGEST_ANSWER, Pipeline, warn_of_toy
from mobilevideogpt.serving.questions import clips_named

log_to(snakemake.log[0])
params = snakemake.params
video = params.video
clips = clips_named(video if isinstance(video, list) else [video])
finetuned = find_finetuned(params.run, download=False)
warn_of_toy(finetuned, clips)
with stdout_copied_to(params.answers):  # a job on another machine has no terminal
    failed = answer_on_terminal(
        Pipeline(finetuned, params.precision),
        clips,
        prompt=params.prompt,
        exercise=params.exercise,
        batch_size=params.batch_size,
        max_new_tokens=LONGEST_ANSWER if params.max_new_tokens == "auto" else params.max_new_tokens,
    )
if failed:
    sys.exit(failed)
