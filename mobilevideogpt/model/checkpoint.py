"""Checkpoints of the released layout: where the tensors are, which may be missing, what they say of the geometry."""

import copy
import json
import logging
import math
import pickle
import re
from collections import Counter
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.model.configuration import MobileVideoGPTConfig

log = logging.getLogger(__name__)

VIDEO_PREFIX = "model.vision_tower."  # and then the key that VideoMamba's own file uses
IMAGE_PREFIX = "model.image_vision_tower.vision_tower."  # and then the key that CLIP's own folder uses
VIDEO_FILE = "videomamba_m16_25M_f8_res224.pth"
LISTED = 100  # tensors that do not fit, in the message about them
WEIGHT_FILES = ("*.json", "*.safetensors", "*.txt")

# Every exception to "all keys, and no others". The head is tied to the embeddings; CLIP's position ids are a constant
# range; VideoMamba's file is a whole video-text model, CLIP's has a tower for text. The alignment head has no effect
# and is zero where it is absent.
DROPPED = re.compile(r"embeddings\.position_ids$")
DROPPED_OF_VIDEO = re.compile(r"(text_encoder|vision_proj|text_proj|itm_head|vision_encoder\.pool_norm)\.|temp$")
DROPPED_OF_IMAGE = re.compile(r"(text_model|text_projection|visual_projection)\.|logit_scale$")
MAY_BE_ABSENT = re.compile(r"model\.vision_tower\.vision_encoder\.clip_decoder\.")

# What the original code writes beside Qwen2's own fields.
OFFICIAL_FIELDS = {
    "freeze_mm_mlp_adapter": False,
    "image_aspect_ratio": "pad",
    "image_grid_pinpoints": None,
    "image_mm_projector_type": "etp",
    "image_mm_vision_tower": "openai/clip-vit-base-patch16",
    "mm_projector_lr": 2e-5,
    "mm_projector_type": "etp",
    "mm_use_box_start_end": False,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": f"OpenGVLab/VideoMamba/{VIDEO_FILE}",
    "tune_mm_mlp_adapter": False,
    "use_mm_proj": True,
}


def official_config(config: MobileVideoGPTConfig) -> dict:
    """``config.json`` for the original code, which runs on transformers 4; our own fields stay in, it ignores them."""
    values = OFFICIAL_FIELDS | json.loads(config.to_json_string())
    values |= {
        "architectures": ["MobileVideoGPTQwenForCausalLM"],
        "image_mm_hidden_size": config.image_hidden_size,
        "mm_hidden_size": config.image_hidden_size,  # as released: the image projector's width overwrites the video's
        "rope_scaling": None,
        "rope_theta": config.rope_parameters["rope_theta"],
        "sliding_window": config.sliding_window or config.max_position_embeddings,
        "torch_dtype": str(config.dtype or torch.float32).removeprefix("torch."),
        "transformers_version": "4.41.0",
    }
    for key in ("dtype", "layer_types", "rope_parameters"):
        values.pop(key, None)
    return values


def read_checkpoint(
    model_class: type,
    folder_or_repo: str | Path,
    video_encoder: str | Path | None,
    image_encoder: str | Path | None,
    config: MobileVideoGPTConfig | dict,
    hub: dict,
) -> tuple[Path, MobileVideoGPTConfig, dict[str, Tensor]]:
    """Return the checkpoint's folder, its complete configuration and exactly the tensors that the model has.

    ``config`` is used in place of the folder's; a dictionary holds but the fields that differ from it.

    Raises:
        InputError: If a file or a tensor is missing, unexpected or of the wrong shape.
    """
    folder = _folder(folder_or_repo, hub)
    tensors = {k: t for k, t in _tensors(folder).items() if not DROPPED.search(k)}
    fields = {}
    # The revision is the checkpoint's; the encoders come from repositories of their own.
    hub = {k: v for k, v in hub.items() if k != "revision"}
    if video_encoder is not None:
        _replace(tensors, VIDEO_PREFIX, _video_tensors(video_encoder, hub))
    if image_encoder is not None:
        own, fields = _image_tensors(image_encoder, hub)
        _replace(tensors, IMAGE_PREFIX, own)
    for prefix, argument, example in (
        (VIDEO_PREFIX, "video_encoder", f"OpenGVLab/VideoMamba's {VIDEO_FILE}"),
        (IMAGE_PREFIX, "image_encoder", "openai/clip-vit-base-patch16"),
    ):
        if not any(k.startswith(prefix) for k in tensors):
            raise InputError(f"{folder}: the checkpoint holds no {argument}; give `{argument}`, for example {example}")
    stored = read_json(folder / "config.json", "it belongs to the checkpoint")
    fields = _geometry(tensors, folder) | _video_token(folder) | fields
    # An encoder from its own source brings its geometry.
    replaced = tuple(p for p, given in (("video_", video_encoder), ("image_", image_encoder)) if given is not None)
    replaced = {k for k in fields if k.startswith(replaced) and k != "video_token_id"}
    stored = {k: v for k, v in stored.items() if k not in replaced}
    if isinstance(config, dict):
        config = MobileVideoGPTConfig.from_dict(fields | stored | config)
    else:  # AutoConfig's, say, which filled in defaults
        config, default = copy.deepcopy(config), MobileVideoGPTConfig()
        for key in fields.keys() - stored.keys():
            if key in replaced or getattr(config, key) == getattr(default, key):
                setattr(config, key, fields[key])
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    with torch.device("meta"):
        expected = model_class(config).state_dict()
    if config.tie_word_embeddings:
        expected.pop("lm_head.weight")
    for key in expected.keys() - tensors.keys():
        if MAY_BE_ABSENT.match(key):
            tensors[key] = torch.zeros(expected[key].shape)
    _check(tensors, expected, folder)
    return folder, config, tensors


def _folder(folder_or_repo: str | Path, hub: dict, patterns=WEIGHT_FILES) -> Path:
    if Path(folder_or_repo).is_dir():
        return Path(folder_or_repo)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(folder_or_repo)):
        raise InputError(f"{folder_or_repo}: there is no such folder, and it is no hub id (owner/name) either")
    return Path(snapshot_download(str(folder_or_repo), allow_patterns=patterns, **hub))


def _tensors(folder: Path) -> dict[str, Tensor]:
    index, listed = folder / "model.safetensors.index.json", {}
    if index.is_file():
        listed = read_json(index)["weight_map"]
    elif not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder}: holds neither model.safetensors nor model.safetensors.index.json; fetch it again")
    tensors = {}
    for name in sorted(set(listed.values())) or ["model.safetensors"]:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: {index.name} lists this file, but it is not there; fetch it again")
        try:
            content = load_file(folder / name)
        except SafetensorError as error:
            raise InputError(f"{folder / name}: damaged ({error}); fetch it again") from error
        # Copies: what is mapped from the file is badly aligned, which changes last digits, and changes with the file.
        tensors |= {k: t.clone() for k, t in content.items()}
    if lacking := sorted(listed.keys() - tensors.keys()):
        raise InputError(
            f"{index}: lists what the files do not hold; fetch them again\n  missing: {', '.join(lacking)}"
        )
    return tensors


def load_pickled(path: Path) -> dict:
    """Read a dictionary that `torch.save` wrote; a file that would have to run code is refused."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path}: holds no plain tensors, or is damaged ({reason}); fetch it again, or, if you trust its source, "
            "save its state dict alone with torch.save and give that file"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict")
    return content


def _parts(tensors: dict[str, Tensor], prefix: str, dropped: re.Pattern, source: Path) -> dict[str, Tensor]:
    """The encoder's tensors; `dropped` is left out silently, whatever else is no part of the encoder is told."""
    kept = {k: t for k, t in tensors.items() if not dropped.match(k)}
    if kept and (others := sorted(k for k in kept if not k.startswith(prefix))):
        log.warning(
            "%s: %d entries are no part of the encoder and not used: %s", source, len(others), ", ".join(others[:5])
        )
    own = {k: t for k, t in kept.items() if k.startswith(prefix)}
    if strange := [k for k, t in own.items() if not isinstance(t, Tensor)]:
        raise InputError(f"{source}: {strange[0]} is no tensor")
    return own


def _replace(tensors: dict[str, Tensor], prefix: str, own: dict[str, Tensor]) -> None:
    for key in [k for k in tensors if k.startswith(prefix)]:
        del tensors[key]
    tensors |= {prefix + k: t for k, t in own.items()}


def _video_tensors(source: str | Path, hub: dict) -> dict[str, Tensor]:
    """VideoMamba's tensors: at the top of its file, or under ``model`` or ``module``."""
    path = Path(source)
    if path.is_dir():
        path /= VIDEO_FILE
    elif not path.is_file() and (parts := re.fullmatch(r"([\w.-]+/[\w.-]+?)(?:/([\w.-]+\.pth))?", str(source))):
        path = Path(hf_hub_download(parts[1], parts[2] or VIDEO_FILE, **hub))
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; video_encoder is VideoMamba's .pth or its hub id")
    content = load_pickled(path)
    for wrapper in ("model", "module"):
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    tensors = _parts(content, "vision_encoder.", DROPPED_OF_VIDEO, path)
    if not tensors:
        raise InputError(
            f"{path}: no key starts with 'vision_encoder.'; this is not VideoMamba's video-text checkpoint"
        )
    return tensors


def _image_tensors(source: str | Path, hub: dict) -> tuple[dict[str, Tensor], dict]:
    """CLIP's vision tensors of a vision or a two-tower folder, and its numbers of heads and layers.

    No tensor shows the heads, nor that the last layers are missing.
    """
    folder = _folder(source, hub, (*WEIGHT_FILES, "pytorch_model.bin"))
    if (folder / "pytorch_model.bin").is_file() and not list(folder.glob("*.safetensors")):
        tensors = load_pickled(folder / "pytorch_model.bin")
    else:
        tensors = _tensors(folder)
    if "embeddings.class_embedding" in tensors:  # as transformers 5 names them when it saves the vision tower alone
        tensors = {f"vision_model.{k}": t for k, t in tensors.items()}
    tensors = {
        k: t for k, t in _parts(tensors, "vision_model.", DROPPED_OF_IMAGE, folder).items() if not DROPPED.search(k)
    }
    if not tensors:
        raise InputError(f"{folder}: no key starts with 'vision_model.'; image_encoder is a CLIP folder or its hub id")
    config = read_json(folder / "config.json", "it belongs to CLIP's folder")
    config = config.get("vision_config", config)
    names = {"image_num_heads": "num_attention_heads", "image_num_layers": "num_hidden_layers"}
    return tensors, {ours: config[theirs] for ours, theirs in names.items() if config.get(theirs) is not None}


def _geometry(tensors: dict[str, Tensor], folder: Path) -> dict:
    """Configuration fields that the encoders' tensors show; heads of 64 are assumed, as in every published CLIP.

    A size is what most tensors that have it say, so that `_check` names the one that is misshapen and not the others.
    """

    def size(axis: int, *patterns: tuple[str, int]) -> int:
        found = [
            t.shape[axis] for p, dims in patterns for k, t in tensors.items() if t.dim() == dims and re.fullmatch(p, k)
        ]
        if not found:
            keys = " or ".join(p.replace("\\", "") for p, _ in patterns)
            raise InputError(f"{folder}: {keys} is missing or misshapen, so the encoder's geometry is unknown")
        return Counter(found).most_common(1)[0][0]

    def depth(prefix: str) -> int:
        numbers = [re.match(rf"{prefix}(\d+)\.", k) for k in tensors]
        return 1 + max((int(n[1]) for n in numbers if n), default=-1)

    video, image = re.escape(f"{VIDEO_PREFIX}vision_encoder."), re.escape(f"{IMAGE_PREFIX}vision_model.")
    mixer, layer = rf"{video}layers\.\d+\.mixer\.", rf"{image}encoder\.layers\.\d+\."
    width = size(-1, (rf"{video}(cls_token|pos_embed|temporal_pos_embedding)", 3), (rf"{video}.*\bnorm\.weight", 1))
    frames = size(1, (rf"{video}temporal_pos_embedding", 3))
    image_width = size(0, (rf"{layer}layer_norm\d\.(weight|bias)", 1), (rf"{image}embeddings\.class_embedding", 1))
    patch = size(-1, (rf"{image}embeddings\.patch_embedding\.weight", 4), (rf"{video}patch_embed\.proj\.weight", 5))
    places = size(-2, (rf"{image}embeddings\.position_embedding\.weight", 2), (rf"{video}pos_embed", 3))
    return {
        "video_hidden_size": width,
        "video_num_layers": depth(rf"{video}layers\."),
        "video_state_size": size(1, (rf"{mixer}A(_b)?_log", 2)),
        "video_conv_kernel": size(-1, (rf"{mixer}conv1d(_b)?\.weight", 3)),
        "video_expand": size(0, (rf"{mixer}D(_b)?", 1)) // width,
        "video_num_frames": frames,
        "num_frames": 2 * frames,
        "image_hidden_size": image_width,
        "image_intermediate_size": size(0, (rf"{layer}mlp\.fc1\.weight", 2), (rf"{layer}mlp\.fc1\.bias", 1)),
        "image_num_layers": depth(rf"{image}encoder\.layers\."),
        "image_num_heads": max(1, image_width // 64),
        "image_size": patch * math.isqrt(places - 1),
        "patch_size": patch,
    }


def _video_token(folder: Path) -> dict:
    """The id of ``<|video_pad|>`` where the folder's tokenizer has it."""
    for name in ("tokenizer_config.json", "tokenizer.json"):
        if (folder / name).is_file():
            content = read_json(folder / name)
            added = [(int(k), v["content"]) for k, v in content.get("added_tokens_decoder", {}).items()]
            added += [(t["id"], t["content"]) for t in content.get("added_tokens", [])]
            for number, text in added:
                if text == "<|video_pad|>":
                    return {"video_token_id": number}
    return {}


def _check(tensors: dict[str, Tensor], expected: dict[str, Tensor], folder: Path) -> None:
    problems = [f"missing: {k} {tuple(expected[k].shape)}" for k in sorted(expected.keys() - tensors.keys())]
    problems += [f"unexpected: {k} {tuple(tensors[k].shape)}" for k in sorted(tensors.keys() - expected.keys())]
    problems += [
        f"wrong shape: {k} is {tuple(tensors[k].shape)}, the model has {tuple(expected[k].shape)}"
        for k in sorted(expected.keys() & tensors.keys())
        if tensors[k].shape != expected[k].shape
    ]
    if problems:
        listed = problems[:LISTED] + [f"and {len(problems) - LISTED} more"] * (len(problems) > LISTED)
        text = "\n  ".join(listed)
        raise InputError(f"{folder}: {len(problems)} tensors do not fit the model:\n  {text}")
