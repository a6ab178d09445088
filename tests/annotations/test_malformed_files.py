"""Any content of a file is either used or refused with an error that names the file."""

import json
import random
from pathlib import Path

import pytest

from mobilevideogpt.annotations.conversations import build_annotations
from mobilevideogpt.annotations.join import ground_truth, join_labels
from mobilevideogpt.annotations.labels import ANSWER_FILES, read_labels
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_records

MANIFEST, LABELS = "dataset/manifest.json", "dataset/labels.json"
GOOD = [
    "squats/1.mp4",
    "squats/2.mp4",
    "./3.mp4",
    "squats\\1_1.mp4",
    "gro\u0308ße/ü.mp4",
    "2",
    "squats - good",
    "squats",
]
TEXTS = ["", " ", ".", "..", "../1.mp4", "/1.mp4", "C:\\1.mp4", "\0", "a\0.mp4", "\x1b[31m", "\ud800", "{x}", "<video>"]
TEXTS += ['"', "\n", "\ufeff", "a" * 300, "////", "🏋/1.mp4", "%s", "*", "[1]", "1.mp4", "lunges/1.mp4"]
KEYS = ["video_path", "labels", "labels_descriptive", "split", "exercise", "feedbacks", "feedback"]


class Draw(random.Random):
    """Draws values that occur in such files, and values that should not."""

    def text(self) -> str:
        return self.choice(GOOD if self.random() < 0.8 else TEXTS)

    def value(self, depth: int = 0) -> object:
        kind = self.random()
        if depth > 2 or kind < 0.6:
            odd = (None, True, -1, 1.5, float("inf"), float("nan"), 10 ** self.randrange(1, 4000))
            return self.text() if self.random() < 0.7 else self.choice(odd)
        if kind < 0.8:
            return [self.value(depth + 1) for _ in range(self.randrange(3))]
        return {self.text(): self.value(depth + 1) for _ in range(self.randrange(3))}

    def entry(self) -> object:
        if self.random() < 0.1:
            return self.value()
        entry = {key: self.text() if self.random() < 0.8 else self.value() for key in KEYS if self.random() < 0.5}
        questions = [self.text() for _ in range(self.randrange(3))]
        return entry | {"fine_grain": {"query": questions, "response": questions[::-1]}, "video_path": self.text()}

    def bytes(self, value: object) -> bytes:
        data = bytearray(json.dumps(value, ensure_ascii=self.random() < 0.5).encode("utf-8", "surrogatepass"))
        if data and self.random() < 0.1:
            place = self.randrange(len(data))
            data[place : place + self.randrange(4)] = self.choice([b"", b"[", b"\0", b"\xff", b"1" * 5000])
        return bytes(data)


@pytest.mark.parametrize("seed", range(2))
def test_any_content_is_used_or_refused_with_the_files_name(project, seed):
    draw = Draw(seed)
    used = 0
    for _ in range(120):
        entries = {draw.choice(GOOD[:5]): draw.text() if draw.random() < 0.8 else draw.value() for _ in range(2)}
        labels = [draw.entry() for _ in range(draw.randrange(4))]
        labels += [{"video_path": clip, "labels": "squats - good", "feedbacks": ["Go."]} for clip in entries]
        Path(MANIFEST).write_bytes(draw.bytes(entries))
        Path(LABELS).write_bytes(draw.bytes(labels))
        source = draw.choice([source for source, files in ANSWER_FILES.items() if files])
        try:
            clips = read_manifest(MANIFEST, "dataset")
        except InputError as error:
            assert MANIFEST in str(error) and str(error).encode()
            continue
        try:
            matched = join_labels(clips, read_labels(LABELS, "dataset", source), source)
        except InputError as error:
            assert (LABELS in str(error) or "annotations.source" in str(error)) and str(error).encode()
            continue
        used += 1
        splits = {clip.path: "train" for clip in clips}
        samples = build_annotations(clips, matched, splits, prompt_template="{exercise}?")["train"]
        write_records(samples, "train.json")
        assert read_samples("train.json") == samples
        write_records(ground_truth(matched), "ground_truth.json")
        again = join_labels(
            [clip for clip in clips if clip.path in matched.by_clip],
            read_labels("ground_truth.json", "dataset", source),
            source,
        )
        assert {path: label.turns for path, label in again.by_clip.items()} == {
            path: label.turns for path, label in matched.by_clip.items()
        }
    assert used > 5
