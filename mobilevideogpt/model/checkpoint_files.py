"""Tensors of a checkpoint folder and of the two encoders' own files, on disk or on the hub."""

import logging
import pickle
import re
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mobilevideogpt.errors import InputError, shown
from mobilevideogpt.files import read_json
from mobilevideogpt.json_shape import misfit
from mobilevideogpt.model.model_paths import VIDEO_FILE
from mobilevideogpt.paths import REPOSITORY

log = logging.getLogger(__name__)

# Where a tokenizer lists tokens with their ids: the keys of two files and their shapes.
TOKENS = {"added_tokens_decoder": {str: {"content": str}}, "added_tokens": [{"id": int, "content": str}]}
WEIGHT_FILES = ("*.json", "*.safetensors", "*.txt")

# Keys that are dropped without a warning. CLIP's position ids are a constant range. VideoMamba's file is a whole
# video-text model, and CLIP's has a tower for text.
DROPPED = re.compile(r"embeddings\.position_ids$")
DROPPED_OF_VIDEO = re.compile(r"(text_encoder|vision_proj|text_proj|itm_head|vision_encoder\.pool_norm)\.|temp$")
DROPPED_OF_IMAGE = re.compile(r"(text_model|text_projection|visual_projection)\.|logit_scale$")


def resolve_folder(folder_or_repo: str | Path, hub: dict, patterns: tuple[str, ...] = WEIGHT_FILES) -> Path:
    """Return a local folder; a hub id is downloaded first, with ``hub`` as options of `snapshot_download`.

    Raises:
        InputError: If the argument is neither a folder nor a hub id.
    """
    if Path(folder_or_repo).is_dir():
        return Path(folder_or_repo)
    if not REPOSITORY.fullmatch(str(folder_or_repo)):
        raise InputError(f"{folder_or_repo}: this is neither a folder nor a hub id; give a path or owner/name")
    return Path(snapshot_download(str(folder_or_repo), allow_patterns=list(patterns), **hub))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint folder, in one safetensors file or in several with an index.

    Raises:
        InputError: If a file or a listed tensor is missing, or a file is damaged.
    """
    index, listed = folder / "model.safetensors.index.json", {}
    if index.is_file():
        listed = read_json(index, "fetch it again", shape={"weight_map": {str: str}})["weight_map"]
        if outside := sorted(name for name in listed.values() if Path(name).name != name):
            raise InputError(f"{index}: lists {shown(outside[0])}, which is not a file of this folder; fetch it again")
    elif not (folder / "model.safetensors").is_file():
        raise InputError(
            f"{folder}: contains neither model.safetensors nor model.safetensors.index.json; fetch it again"
        )
    tensors = {}
    for name in sorted(set(listed.values())) or ["model.safetensors"]:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing, although {index.name} lists it; fetch it again")
        try:
            content = load_file(folder / name)
        except SafetensorError as error:
            raise InputError(f"{folder / name}: damaged ({error}); fetch it again") from error
        # Clones, because tensors mapped from a file are badly aligned (which changes last digits) and change with it.
        tensors |= {k: t.clone() for k, t in content.items()}
    if lacking := sorted(listed.keys() - tensors.keys()):
        raise InputError(
            f"{index}: lists tensors that no file contains; fetch the files again\n  missing: {', '.join(lacking)}"
        )
    return {k: t for k, t in tensors.items() if not DROPPED.search(k)}


def load_pickled(path: Path) -> dict:
    """Read a dictionary that `torch.save` wrote; a file that would have to run code is refused."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path}: contains more than plain tensors, or is damaged ({reason}); fetch it again, or, if you trust its "
            "source, save its state dict alone with torch.save and give that file"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: contains a {type(content).__name__}, not a state dict; give a file with a state dict"
        )
    return content


def read_video_encoder(source: str | Path, hub: dict) -> dict[str, Tensor]:
    """Read VideoMamba's tensors: at the top of its file, or under ``model`` or ``module``.

    Args:
        source: The ``.pth`` file, a folder that contains it, or a hub id with or without the file's name.
        hub: Options of `hf_hub_download`.
    """
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
    tensors = _encoder_tensors(content, "vision_encoder.", DROPPED_OF_VIDEO, path)
    if not tensors:
        raise InputError(
            f"{path}: no key starts with 'vision_encoder.'; video_encoder is VideoMamba's video-text checkpoint"
        )
    return tensors


def read_image_encoder(source: str | Path, hub: dict) -> tuple[dict[str, Tensor], dict]:
    """Read CLIP's vision tensors from a vision-only or a two-tower folder, and two fields of its configuration.

    The tensors do not show the number of heads, nor that the last layers are missing.
    """
    folder = resolve_folder(source, hub, (*WEIGHT_FILES, "pytorch_model.bin"))
    if (folder / "pytorch_model.bin").is_file() and not list(folder.glob("*.safetensors")):
        tensors = load_pickled(folder / "pytorch_model.bin")
    else:
        tensors = read_tensors(folder)
    if "embeddings.class_embedding" in tensors:  # keys of transformers 5 where it saves the vision tower alone
        tensors = {f"vision_model.{k}": t for k, t in tensors.items()}
    tensors = _encoder_tensors(tensors, "vision_model.", DROPPED_OF_IMAGE, folder)
    if not tensors:
        raise InputError(f"{folder}: no key starts with 'vision_model.'; image_encoder is a CLIP folder or its hub id")
    config = read_json(folder / "config.json", "it belongs to CLIP's folder", shape=dict)
    config = config.get("vision_config", config)
    if not isinstance(config, dict):
        raise InputError(f'{folder}/config.json: "vision_config" is not an object; fetch it again')
    names = {"image_num_heads": "num_attention_heads", "image_num_layers": "num_hidden_layers"}
    return tensors, {ours: config[theirs] for ours, theirs in names.items() if config.get(theirs) is not None}


def _encoder_tensors(content: dict, prefix: str, dropped: re.Pattern, source: Path) -> dict[str, Tensor]:
    """Select the keys with ``prefix``; a warning names the others, except those that ``dropped`` matches."""
    kept = {k: t for k, t in content.items() if not dropped.match(k)}
    if kept and (others := sorted(k for k in kept if not k.startswith(prefix))):
        log.warning(
            "%s: %d entries do not belong to the encoder and are not used: %s",
            source,
            len(others),
            ", ".join(others[:5]),
        )
    tensors = {k: t for k, t in kept.items() if k.startswith(prefix) and not DROPPED.search(k)}
    if strange := [k for k, t in tensors.items() if not isinstance(t, Tensor)]:
        raise InputError(f"{source}: {strange[0]} is not a tensor; fetch the file again")
    return tensors


def read_video_token(folder: Path) -> dict[str, int]:
    """Return the id of ``<|video_pad|>`` as ``video_token_id``, if the folder's tokenizer has this token."""
    for name in ("tokenizer_config.json", "tokenizer.json"):
        if (folder / name).is_file():
            content = read_json(folder / name, "fetch it again", shape=dict)
            content = {key: content[key] for key in TOKENS.keys() & content.keys()}
            if text := misfit(content, {key: TOKENS[key] for key in content}):
                raise InputError(f"{folder / name}: {text}; fetch it again")
            decoder = content.get("added_tokens_decoder", {})
            added = [(int(k), v["content"]) for k, v in decoder.items() if k.isdecimal()]
            added += [(t["id"], t["content"]) for t in content.get("added_tokens", [])]
            for number, text in added:
                if text == "<|video_pad|>":
                    return {"video_token_id": number}
    return {}
