"""How often simulated models are told to have learned, beside McNemar's test of the fine-tuned model against the base.

    python benchmarks/conclusion.py --repetitions 400

Models that learned nothing: a uniform guesser among 6 exercises, with a base that is never right; a constant answer
under a prompt that names the exercise; two equally good models. Models that learned: a gain of 10 or 30 points over the
base. Some with 3 questions a clip, of whose answers most are right or most are wrong.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from scipy.stats import binomtest

from mobilevideogpt.evaluation.conclusion import conclude

EXERCISES = ["squats", "lunges", "push-ups", "plank", "squat jump", "deadlift"]
FEEDBACK = ["no obvious issue", "knees in", "back rounded", "too fast", "too shallow"]
SHARES = [0.4, 0.15, 0.15, 0.15, 0.15]  # of each feedback
SIZES = (6, 24, 120, 300)
NOTHING = ("guesser", "constant", "equal", "equal, 3 questions")
GAINS = ("gain 10", "gain 30", "gain 30, 3 questions")


def sample(exercise: str, prompt: str, answer: str) -> dict:
    """A training sample."""
    turns = [{"from": "human", "value": prompt}, {"from": "gpt", "value": answer}]
    return {"video": "train.mp4", "exercise": exercise, "conversations": turns}


def simulate(case: str, n: int, draw: np.random.Generator) -> tuple[list[dict], list[dict]]:
    """Draw the predictions for ``n`` samples, and the training samples."""
    if case == "constant":
        return _constant(n, draw)
    exercises = draw.choice(EXERCISES, n)
    videos = np.arange(n) // (3 if "questions" in case else 1)
    exercises = exercises[videos]
    base, tuned = _correct(case, videos, draw)
    if case == "guesser":
        named = {"base": [""] * n, "finetuned": list(draw.choice(EXERCISES, n))}
    else:
        named = {"base": _named(base, exercises), "finetuned": _named(tuned, exercises)}
    prompts = [f"<video>\nQuestion {i % 3 if 'questions' in case else 0}: which exercise is it?" for i in range(n)]
    rows = [
        {"video": f"test/{video}.mp4", "exercise": str(exercise), "prompt": prompt, "reference": f"{exercise} - good"}
        | {name: f"{answers[i]} - good" for name, answers in named.items()}
        for i, (video, exercise, prompt) in enumerate(zip(videos, exercises, prompts, strict=True))
    ]
    return rows, [sample(name, prompts[0], f"{name} - good") for name in EXERCISES for _ in range(4)]


def _named(correct: np.ndarray, exercises: np.ndarray) -> list[str]:
    """The right exercise, or one that is wrong."""
    return [name if right else "" for right, name in zip(correct, exercises, strict=True)]


def _correct(case: str, videos: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Whether base and fine-tuned model are right about each sample, both in half of them but for the gain."""

    def right() -> np.ndarray:
        of_clip = draw.choice([0.1, 0.9], len(videos))[videos] if "questions" in case else 0.5
        return draw.random(len(videos)) < of_clip

    base = right()
    if "gain" in case:
        gained = (draw.random(len(videos)) < 2 * int(case.split()[1].rstrip(",")) / 100)[videos]
        return base, base | gained
    return base, right()


def _constant(n: int, draw: np.random.Generator) -> tuple[list[dict], list[dict]]:
    """A model that always gives the commonest feedback, under a prompt that names the exercise."""
    rows = [
        {
            "video": f"test/{i}.mp4",
            "exercise": str(exercise),
            "prompt": f"<video>\nWhat is wrong with these {exercise}?",
            "reference": f"{exercise} - {feedback}",
            "base": "A person.",
            "finetuned": f"{exercise} - {FEEDBACK[0]}",
        }
        for i, (exercise, feedback) in enumerate(
            zip(draw.choice(EXERCISES, n), draw.choice(FEEDBACK, n, p=SHARES), strict=True)
        )
    ]
    train = [
        sample(exercise, f"<video>\nWhat is wrong with these {exercise}?", f"{exercise} - {feedback}")
        for exercise in EXERCISES
        for feedback in draw.choice(FEEDBACK, 5, p=SHARES)
    ]
    return rows, train


def mcnemar(rows: list[dict]) -> bool:
    """Whether McNemar's exact test finds the fine-tuned model better than the base, as if samples were independent."""
    right = [[row[name] == row["reference"] for name in ("finetuned", "base")] for row in rows]
    better, worse = sum(a > b for a, b in right), sum(a < b for a, b in right)
    return better > worse and float(binomtest(better, better + worse).pvalue) < 0.05


def table(repetitions: int, seed: int = 0, sizes: tuple[int, ...] = SIZES) -> Iterator[tuple[str, int, float, float]]:
    """Yield case, number of samples, share told to have learned, and share that McNemar's test finds better."""
    for case in NOTHING + GAINS:
        for n in sizes:
            draw = np.random.default_rng([seed, n, (NOTHING + GAINS).index(case)])
            told = found = 0
            for _ in range(repetitions):
                rows, train = simulate(case, n, draw)
                told += conclude(rows, train).learned is True
                found += mcnemar(rows)
            yield case, n, told / repetitions, found / repetitions


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Print how often simulated models are told to have learned.")
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'case':>22} {'n':>4} {'learned':>8} {'McNemar':>8}")
    for case, n, told, found in table(options.repetitions, options.seed):
        print(f"{case:>22} {n:>4} {told:>8.3f} {found:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
