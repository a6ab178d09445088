"""Everything the goldens hold, computed by this package: ``python -m tests.parity.measure`` prints the errors.

``golden.safetensors`` was computed with the original code (github.com/Amshaker/Mobile-VideoGPT, c82a4cb) on the seeded
weights of ``weights.py``; ``golden.json`` says what each tensor is and how near one should come.
"""

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mobilevideogpt import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.model.selection import frame_scores, select_frames
from mobilevideogpt.video.decoding import read_frames
from mobilevideogpt.video.frames import encoder_frames
from mobilevideogpt.video.pixels import standardise
from mobilevideogpt.video.sampling import NUM_FRAMES
from tests.parity import weights

HERE = Path(__file__).parent
CLIP = HERE / "00000340.mp4"
GOLDEN = load_file(HERE / "golden.safetensors")
ABOUT = json.loads((HERE / "golden.json").read_text())
MIN_FRAMES = {"training": 8, "inference": 16}
# Goldens that are not to be met, and why.
INPUT = "an input of others, not a result"
LEFT_OUT = {
    "full.Q_no_video_token.": "the original's way with a question that names no video: it doubles seven tokens of the "
    "text and drops the video's; here the video is put in front",
    "fork_head.": "a later fork's encoder, which reads forward only; a test sees that ours is another",
    "full.A.input_ids": INPUT,
    "full.A.labels": INPUT,
    "full.A.attention_mask": INPUT,
    "full.AB.input_ids": INPUT,
    "full.AB.labels": INPUT,
    "full.AB.attention_mask": INPUT,
    "generate.prompt_ids": INPUT,
}
NAMES = [name for name in GOLDEN if not name.startswith(tuple(LEFT_OUT))]


def expanded(name: str, config) -> dict[str, Tensor]:
    """The golden's token ids, labels and mask, with the visual placeholders where its run of -200 stands."""
    ids, labels, mask = (GOLDEN[f"full.{name}.{part}"].long() for part in ("input_ids", "labels", "attention_mask"))
    rows = []
    for row in zip(ids, labels, mask, strict=True):
        run = (row[0] == -200).nonzero()[:, 0]
        before, after = slice(0, run[0]), slice(run[-1] + 1, None)
        fills = (config.video_token_id, -100, 1)
        rows.append([_spread(t, before, after, fill, config) for t, fill in zip(row, fills, strict=True)])
    names = ("input_ids", "labels", "attention_mask")
    return {n: torch.stack(parts) for n, parts in zip(names, zip(*rows, strict=True), strict=True)}


def _spread(row: Tensor, before: slice, after: slice, fill: int, config) -> Tensor:
    return torch.cat([row[before], torch.full((config.num_visual_tokens,), fill), row[after]])


def expanded_prompt(config) -> Tensor:
    """The prompt of the generation golden, ``(1, L)``."""
    row = GOLDEN["generate.prompt_ids"].long()[0]
    run = (row == -200).nonzero()[:, 0]
    return _spread(row, slice(0, run[0]), slice(run[-1] + 1, None), config.video_token_id, config)[None]


def probed(x: Tensor) -> Tensor:
    """A fixed projection of the last axis: covers every token at little cost."""
    return x @ weights.probe(x.shape[-1])


def _pixels_of(frames: np.ndarray) -> dict[str, Tensor]:
    pixels = standardise([encoder_frames(frames)], NUM_FRAMES)
    return {"video": pixels["pixel_values_videos"][0], "context": pixels["pixel_values_context"][0]}


class Measured:
    """Computes each group of goldens once, when it is first asked for."""

    def __init__(self, model: MobileVideoGPTForConditionalGeneration):
        self.model = model
        self.encoder = model.model.vision_tower.vision_encoder
        self._group = cache(self._compute)

    def __getitem__(self, name: str) -> Tensor:
        parts = name.split(".")
        return self._group(".".join(parts[:2]) if parts[0] in ("full", "grad", "pixels", "videomamba") else parts[0])[
            name
        ]

    def error(self, name: str) -> float:
        """Largest difference from the golden."""
        ours, golden = self[name], GOLDEN[name]
        assert ours.numel() == golden.numel(), f"{name}: {tuple(ours.shape)} is not {tuple(golden.shape)}"
        different = (ours.detach().double().reshape(golden.shape) - golden.double()).abs()
        if name.endswith("logits_supervised"):  # nothing precedes position 0
            different = different[[p > 0 for _, p in ABOUT["full"][name.split(".")[1]]["supervised_positions"]]]
        elif name == "full.AB.logits.probe":
            different = different[expanded("AB", self.model.config)["attention_mask"].bool()]
        return different.max().item()

    @cache  # noqa: B019
    def features(self, sample: str) -> dict[str, Tensor]:
        pixels = [weights.inputs(f"{kind}_{letter}") for kind in ("frames", "context") for letter in sample.lower()]
        video, context = (torch.stack(p) for p in (pixels[: len(sample)], pixels[len(sample) :]))
        with torch.no_grad():
            return dict(
                zip(("video_features", "context_features"), self.model.encode_video(video, context), strict=True)
            )

    def _compute(self, group: str) -> dict[str, Tensor]:
        kind, _, rest = group.partition(".")
        with torch.set_grad_enabled(kind == "grad"):
            return getattr(self, f"_{kind}")(rest)

    def _videomamba(self, which: str) -> dict[str, Tensor]:
        if which == "image_mode":
            out = self.encoder(weights.inputs("vm_image").transpose(1, 2))
            return {f"videomamba.image_mode.x_vis.{k}": v for k, v in
                    {"slice": out[0, ::14, ::48], "probe": probed(out)}.items()}  # fmt: skip
        tokens = self.encoder.embed(weights.inputs("vm_clip").transpose(1, 2))
        hidden, residual, first = tokens, None, None
        for block in self.encoder.layers:
            hidden, residual = block(hidden, residual)
            first = hidden if first is None else first
        out = self.encoder.norm(hidden + residual)
        return {
            "videomamba.tokens_in.slice": tokens[0, ::112, ::48],
            "videomamba.tokens_in.probe": probed(tokens),
            "videomamba.block0_out.probe": probed(first),
            "videomamba.last_block_hidden.probe": probed(hidden),
            "videomamba.last_block_residual.probe": probed(residual),
            "videomamba.x_vis.slice": out[0, ::28, ::24],
            "videomamba.x_vis.probe": probed(out),
            "videomamba.x_vis.row_norm": out[0].norm(dim=1),
            "videomamba.x_vis.col_norm": out[0].norm(dim=0),
        }

    def _block(self, _: str) -> dict[str, Tensor]:
        tokens = weights.inputs("vm_tokens")
        first = self.encoder.layers[0](tokens, None)
        second = self.encoder.layers[1](tokens, weights.inputs("vm_residual"))
        return {
            "block.first.hidden.slice": first[0][0, ::28, ::24],
            "block.first.hidden.probe": probed(first[0]),
            "block.first.residual.probe": probed(first[1]),
            "block.second.hidden.slice": second[0][0, ::28, ::24],
            "block.second.hidden.probe": probed(second[0]),
            "block.second.residual.slice": second[1][0, ::56, ::48],
            "block.second.residual.probe": probed(second[1]),
        }

    def _mixer(self, _: str) -> dict[str, Tensor]:
        mixer, tokens = self.encoder.layers[2].mixer, weights.inputs("mixer_seq")
        out, (x, z) = mixer(tokens), mixer.in_proj(tokens).chunk(2, dim=-1)
        return {
            "mixer.out.slice": out[:, :, ::16],
            "mixer.out.probe": probed(out),
            "mixer.forward_branch.probe": probed(mixer.forward_branch(x, z)),
            "mixer.backward_branch.probe": probed(mixer.backward_branch(x, z)),
        }

    def _clip(self, _: str) -> dict[str, Tensor]:
        out = self.features("A")["context_features"][0]
        return {"clip.features.slice": out[::5, ::14, ::48], "clip.features.probe": probed(out)}

    def _select(self, _: str) -> dict[str, Tensor]:
        seeded = frame_scores(weights.inputs("context_features"))
        encoded = frame_scores(self.features("A")["context_features"][0].unflatten(0, (2, 8)))
        return {
            "select.context_features.scores": seeded,
            "select.context_features.indices": select_frames(seeded, 4),
            "select.context_features.indices_smallest": select_frames(seeded, 4, highest=False),
            "select.context_a.scores": encoded,
            "select.context_a.indices": select_frames(encoded, 4),
        }

    def _projector(self, _: str) -> dict[str, Tensor]:
        video = self.model.model.mm_projector(weights.inputs("proj_video"))
        image = self.model.model.image_mm_projector(weights.inputs("proj_image"))
        return {
            "projector.video.out": video[:, :, ::4],
            "projector.video.probe": probed(video),
            "projector.image.out": image[:, ::6, ::8],
            "projector.image.probe": probed(image),
        }

    def _full(self, sample: str) -> dict[str, Tensor]:
        model, features = self.model, self.features(sample)
        text = expanded(sample, model.config)
        logits = model(text["input_ids"], text["attention_mask"], **features).logits
        places = torch.tensor(ABOUT["full"][sample]["supervised_positions"])
        visual = model.model.project(**features)
        measured = {
            "logits_supervised": logits[places[:, 0], places[:, 1] - 1],
            "logits.probe": probed(logits),
            "inputs_embeds.probe": probed(model.embed(text["input_ids"], **features)),
            "merged_labels": text["labels"],
            "merged_attention_mask": text["attention_mask"],
            "video_features.slice": features["video_features"][0, :, ::14, ::48],
            "video_features.probe": probed(features["video_features"][0]),
            "visual_tokens.probe": probed(visual[0]),
            "visual_tokens.video_part": visual[0, 2304:, ::4],
            "visual_tokens.context_part": visual[0, :2304:96, ::4],
        }
        return {f"full.{sample}.{name}": value for name, value in measured.items()}

    def _generate(self, _: str) -> dict[str, Tensor]:
        out = self.model.generate(
            expanded_prompt(self.model.config),
            **self.features("A"),
            max_new_tokens=16,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return {"generate.output_ids": out.sequences, "generate.step_logits.probe": probed(torch.cat(out.logits))}

    def _pixels(self, which: str) -> dict[str, Tensor]:
        if which == "synthetic":
            return {
                f"pixels.synthetic.{size}.{kind}": pixels[0, :, 4::16, 4::16]
                for size in weights.RGB_SIZES
                for kind, pixels in _pixels_of(weights.rgb_frame(size)[None]).items()
            }
        frames, _, _ = read_frames(CLIP, min_frames=MIN_FRAMES[which])
        return {f"pixels.{which}.{kind}": pixels[:, :, 8::32, 8::32] for kind, pixels in _pixels_of(frames).items()}

    def _grad(self, _: str) -> dict[str, Tensor]:
        self.model.zero_grad()
        self.model(**expanded("A", self.model.config), **self.features("A")).loss.backward()
        grads = {f"grad.A.{name}": p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        self.model.zero_grad()
        return grads

    def loss(self, sample: str) -> float:
        with torch.no_grad():
            return self.model(**expanded(sample, self.model.config), **self.features(sample)).loss.item()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measured = Measured(MobileVideoGPTForConditionalGeneration.from_pretrained(weights.write_checkpoint(folder)))
        print(f"{'golden':45} {'largest error':>13} {'allowed':>8}")
        for name in NAMES:
            print(f"{name:45} {measured.error(name):13.1e} {ABOUT['tensors'][name].get('suggested_atol', 0):8.0e}")
        for sample in ("A", "AB"):
            print(f"{'loss of ' + sample:45} {abs(measured.loss(sample) - ABOUT['full'][sample]['loss']):13.1e}")
        grads = measured._group("grad.A")
        worst = max(abs(grads[f"grad.A.{n}"].norm().item() / norm - 1) for n, norm in ABOUT["grad_norms_A"].items())
        print(f"{'gradient norms, largest relative error':45} {worst:13.1e}")
        print("\nleft out:")
        for start, reason in LEFT_OUT.items():
            print(f"{start:45} {sum(n.startswith(start) for n in GOLDEN):3}  {reason}")


if __name__ == "__main__":
    main()
