"""The program ``mobilevideogpt``: answers about clips, and a page to try them, without Snakemake."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

from mobilevideogpt.errors import InputError

RUN = "a run's name or folder, the folder of an adapter or an export, or a repository of the hub"
PRECISION = "of the language model, the adapter merged into it (auto: as in the evaluation, on a CPU fp32)"
EXAMPLES = """examples:
  mobilevideogpt predict try2 clip.mp4
  mobilevideogpt predict results/try2 clips/ --exercise squats --html answers.html
  mobilevideogpt predict owner/name clips.txt --json > answers.jsonl
  mobilevideogpt demo try2
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    main = argparse.ArgumentParser(
        prog="mobilevideogpt", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = main.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="answer about clips")
    predict.add_argument("run", metavar="RUN", help=RUN)
    predict.add_argument(
        "clips", metavar="CLIP", nargs="+", help="a clip, a folder of clips, or a list of paths (.txt, .csv, .json)"
    )
    predict.add_argument("--prompt", help="the question; by default that of the training")
    predict.add_argument("--exercise", help="the exercise of all clips, where the prompt names it")
    predict.add_argument("--json", action="store_true", help="print a JSON object on a line for each clip")
    predict.add_argument("--html", metavar="FILE", help="write a page with the answers and the frames, too")
    predict.add_argument("--stream", action="store_true", help="print each answer while it is generated")
    predict.add_argument("--batch-size", type=_positive, default=4, help="clips at a time (4)")
    predict.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help=PRECISION)
    predict.add_argument("--max-new-tokens", type=_positive, default=512, help="longest answer (512)")
    demo = commands.add_parser("demo", help="serve a page on this machine to try clips on")
    demo.add_argument("run", metavar="RUN", help=RUN)
    demo.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this machine alone)")
    demo.add_argument("--port", type=int, default=7860, help="port (7860); 0: any that is free")
    demo.add_argument("--max-megabytes", type=_positive, default=64, help="largest clip (64)")
    demo.add_argument("--max-seconds", type=_positive, default=120, help="longest clip (120)")
    return main


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status: 1 if a clip was not answered about, 2 for wrong arguments."""
    options = parser().parse_args(arguments)
    if options.command == "predict" and options.stream and (options.json or options.html):
        parser().error("--stream prints text alone; leave out --json and --html")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", force=True)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)  # of libraries about other libraries
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # "Loading weights" of files on the disk
    try:
        if options.command == "demo":
            from mobilevideogpt.serving.demo import serve

            serve(
                options.run,
                host=options.host,
                port=options.port,
                max_megabytes=options.max_megabytes,
                max_seconds=options.max_seconds,
            )
            return 0
        return _predict(options)
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _predict(options: argparse.Namespace) -> int:
    from mobilevideogpt.serving.questions import clips_named

    clips = clips_named(options.clips)  # before anything slow is imported
    from mobilevideogpt.serving.answering import answer_on_terminal
    from mobilevideogpt.serving.pipeline import load

    return answer_on_terminal(
        load(options.run, options.precision),
        clips,
        prompt=options.prompt,
        exercise=options.exercise,
        batch_size=options.batch_size,
        max_new_tokens=options.max_new_tokens,
        as_json=options.json,
        page=options.html,
        stream=options.stream,
    )


if __name__ == "__main__":
    sys.exit(main())
