"""Seeded weights, inputs and checkpoint folders for the reduced Mobile-VideoGPT parity model.

Everything here is a pure function of a text key and a shape.  Nothing is stored: the
goldens in golden.safetensors / golden.json were made with exactly these tensors.

    unit(key, shape)    zero mean, unit variance, uniform on [-sqrt(3), sqrt(3)), float32
    param(key, shape)   one model parameter, from its official checkpoint key
    state_dict(geo)     a whole official-layout state dict
    inputs()            the seeded pixel / feature inputs that the goldens use
    write_checkpoint(folder)   config.json, model.safetensors, tokenizer, VideoMamba .pth, CLIP folder

The random stream is numpy's PCG64 raw output (a bit stream numpy promises not to change),
cut to 24 bits, so every value is exact in float32 arithmetic and the same on every machine.
`selftest()` compares sha256 sums of some tensors with golden.json.

Needs numpy and torch; safetensors for write_checkpoint.
"""

import hashlib
import json
import math
import os
import zlib

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))

# --------------------------------------------------------------------------- geometries

REDUCED = dict(
    vocab=1024,
    hidden=128,
    layers=2,
    heads=4,
    kv_heads=2,
    inter=256,
    vm_dim=576,
    vm_depth=4,
    vm_state=16,
    vm_conv=4,
    vm_expand=2,
    vm_frames=8,
    clip_hidden=768,
    clip_layers=3,
    clip_inter=512,
    clip_heads=12,
    patch=16,
    image=224,
)
FULL = dict(  # Qwen2.5-0.5B-Instruct + VideoMamba-M + CLIP ViT-B/16
    vocab=151936,
    hidden=896,
    layers=24,
    heads=14,
    kv_heads=2,
    inter=4864,
    vm_dim=576,
    vm_depth=32,
    vm_state=16,
    vm_conv=4,
    vm_expand=2,
    vm_frames=8,
    clip_hidden=768,
    clip_layers=12,
    clip_inter=3072,
    clip_heads=12,
    patch=16,
    image=224,
)

VM_PREFIX = "model.vision_tower."  # + "vision_encoder...." = the .pth file's own key
CLIP_PREFIX = "model.image_vision_tower.vision_tower."  # + "vision_model...." = the CLIP folder's own key


# --------------------------------------------------------------------------- random numbers


def unit(key, shape):
    """Uniform, zero mean, unit variance float32 tensor; a pure function of (key, shape)."""
    n = int(np.prod(shape)) if len(shape) else 1
    raw = np.random.PCG64(zlib.crc32(key.encode())).random_raw(n)
    u = (raw >> np.uint64(40)).astype(np.float64) * 2.0**-24  # [0, 1), 24 bits
    x = ((u - 0.5) * math.sqrt(12.0)).astype(np.float32)
    return torch.from_numpy(x.reshape(shape))


def _unit01(key, shape):
    n = int(np.prod(shape))
    raw = np.random.PCG64(zlib.crc32(key.encode())).random_raw(n)
    return (raw >> np.uint64(40)).astype(np.float64).reshape(shape) * 2.0**-24


def probe(n):
    """Fixed random direction of width n: goldens store x @ probe(n) to cover every token cheaply."""
    return unit(f"probe/{n}", (n,)) / math.sqrt(n)


# --------------------------------------------------------------------------- parameter rules


def _fan_in(shape):
    return int(np.prod(shape[1:]))


def param(key, shape, salt=""):
    """The value of one parameter.  `key` is the official checkpoint key (with towers).

    `salt` changes the random stream without changing the rule: use it to make two different
    weight sets for the same key (for example to see which file wins when both hold a tower).
    """
    shape = tuple(shape)
    seed = salt + key
    u = lambda s=1.0: unit(seed, shape) * s  # noqa: E731
    leaf2 = ".".join(key.split(".")[-2:])
    leaf = key.split(".")[-1]
    is_vm = ".vision_encoder." in key
    is_clip = ".vision_model." in key
    is_video_proj = ".mm_projector." in key
    is_image_proj = ".image_mm_projector." in key

    if is_vm:
        if leaf in ("A_log", "A_b_log"):
            n = torch.arange(1, shape[1] + 1, dtype=torch.float64).log()
            return (n + 0.2 * u().double()).float()
        if leaf in ("D", "D_b"):
            return 1.0 + u(0.3)
        if leaf2 in ("dt_proj.bias", "dt_proj_b.bias"):
            # softplus(bias) is log-uniform on [1e-3, 1e-1)
            dt = np.exp(_unit01(seed, shape) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
            return torch.from_numpy((dt + np.log(-np.expm1(-dt))).astype(np.float32))
        if leaf2 in ("conv1d.weight", "conv1d_b.weight"):
            return u(0.5)
        if leaf2 in ("conv1d.bias", "conv1d_b.bias"):
            return u(0.3)
        if leaf2 in ("x_proj.weight", "x_proj_b.weight", "out_proj.weight"):
            return u(2.0 / math.sqrt(_fan_in(shape)))
        if leaf in ("cls_token", "pos_embed", "temporal_pos_embedding"):
            return u(0.5)
        if leaf2 == "norm.weight":
            return 1.0 + u(0.2)
        # in_proj, dt_proj weights, patch_embed.proj, clip_decoder: falls through
    if is_clip:
        if leaf2 == "pre_layrnorm.weight":  # small residual stream: soft frame attention
            return 0.2 * (1.0 + u(0.2))
        if leaf2 == "pre_layrnorm.bias":
            return u(0.02)
        if leaf2 in ("out_proj.weight", "fc2.weight"):
            return u(0.3 / math.sqrt(_fan_in(shape)))
        if leaf2 in ("out_proj.bias", "fc2.bias"):
            return u(0.02)
        if leaf2 in ("q_proj.weight", "k_proj.weight"):
            return u(1.5 / math.sqrt(_fan_in(shape)))
        if leaf in ("class_embedding",) or leaf2 == "position_embedding.weight":
            return u(0.5)
    if is_image_proj and key.endswith("mlp.mlp.0.weight"):
        return u(4.0 / math.sqrt(_fan_in(shape)))
    if is_video_proj and key.endswith("mlp.mlp.0.weight"):
        return u(3.0 / math.sqrt(_fan_in(shape)))
    if (is_image_proj or is_video_proj) and key.endswith("mlp.mlp.2.weight"):
        return u(2.0 / math.sqrt(_fan_in(shape)))
    if key.endswith("peg.peg.0.weight"):
        return u(0.3)
    if leaf2 in ("embed_tokens.weight", "lm_head.weight"):
        return u(0.12)
    if leaf2 in ("o_proj.weight", "down_proj.weight"):
        return u(2.0 / math.sqrt(_fan_in(shape)))
    if leaf2 in ("q_proj.weight", "k_proj.weight"):
        return u(3.0 / math.sqrt(_fan_in(shape)))
    if "norm" in key and leaf == "weight":
        return 1.0 + u(0.2)
    if leaf == "bias":
        return u(0.2)
    return u(1.0 / math.sqrt(_fan_in(shape)))


# --------------------------------------------------------------------------- key lists


def llm_shapes(g):
    h, i, d = g["hidden"], g["inter"], g["hidden"] // g["heads"]
    kv = g["kv_heads"] * d
    out = {"model.embed_tokens.weight": (g["vocab"], h)}
    for n in range(g["layers"]):
        p = f"model.layers.{n}."
        for m, o in (("q_proj", h), ("k_proj", kv), ("v_proj", kv)):
            out[p + f"self_attn.{m}.weight"] = (o, h)
            out[p + f"self_attn.{m}.bias"] = (o,)
        out[p + "self_attn.o_proj.weight"] = (h, h)
        out[p + "mlp.gate_proj.weight"] = (i, h)
        out[p + "mlp.up_proj.weight"] = (i, h)
        out[p + "mlp.down_proj.weight"] = (h, i)
        out[p + "input_layernorm.weight"] = (h,)
        out[p + "post_attention_layernorm.weight"] = (h,)
    out["model.norm.weight"] = (h,)
    return out


def projector_shapes(g):
    out = {}
    for name, inc in (("mm_projector", g["vm_dim"]), ("image_mm_projector", g["clip_hidden"])):
        h = g["hidden"]
        out[f"model.{name}.mlp.mlp.0.weight"] = (h, inc)
        out[f"model.{name}.mlp.mlp.0.bias"] = (h,)
        out[f"model.{name}.mlp.mlp.2.weight"] = (h, h)
        out[f"model.{name}.mlp.mlp.2.bias"] = (h,)
        out[f"model.{name}.peg.peg.0.weight"] = (h, 1, 3, 3)
        out[f"model.{name}.peg.peg.0.bias"] = (h,)
    return out


def videomamba_shapes(g, prefix="vision_encoder."):
    d, s, w = g["vm_dim"], g["vm_state"], g["vm_conv"]
    di, r = g["vm_expand"] * d, math.ceil(d / 16)
    n = (g["image"] // g["patch"]) ** 2
    out = {
        "cls_token": (1, 1, d),
        "pos_embed": (1, n + 1, d),
        "temporal_pos_embedding": (1, g["vm_frames"], d),
        "patch_embed.proj.weight": (d, 3, 1, g["patch"], g["patch"]),
        "patch_embed.proj.bias": (d,),
    }
    for k in range(g["vm_depth"]):
        m = f"layers.{k}.mixer."
        out[m + "A_log"] = (di, s)
        out[m + "D"] = (di,)
        out[m + "A_b_log"] = (di, s)
        out[m + "D_b"] = (di,)
        out[m + "in_proj.weight"] = (2 * di, d)
        for b in ("", "_b"):
            out[m + f"conv1d{b}.weight"] = (di, 1, w)
            out[m + f"conv1d{b}.bias"] = (di,)
            out[m + f"x_proj{b}.weight"] = (r + 2 * s, di)
            out[m + f"dt_proj{b}.weight"] = (di, r)
            out[m + f"dt_proj{b}.bias"] = (di,)
        out[m + "out_proj.weight"] = (d, di)
        out[f"layers.{k}.norm.weight"] = (d,)
    out["norm.weight"] = (d,)
    out["clip_decoder.0.head.weight"] = (512, d)  # never used by Mobile-VideoGPT
    out["clip_decoder.0.head.bias"] = (512,)
    out["clip_decoder.0.norm.weight"] = (512,)
    out["clip_decoder.0.norm.bias"] = (512,)
    return {prefix + k: v for k, v in out.items()}


def clip_shapes(g, prefix="vision_model."):
    h, i = g["clip_hidden"], g["clip_inter"]
    n = (g["image"] // g["patch"]) ** 2
    out = {
        "embeddings.class_embedding": (h,),
        "embeddings.patch_embedding.weight": (h, 3, g["patch"], g["patch"]),
        "embeddings.position_embedding.weight": (n + 1, h),
        "pre_layrnorm.weight": (h,),
        "pre_layrnorm.bias": (h,),
    }
    for k in range(g["clip_layers"]):
        p = f"encoder.layers.{k}."
        for m in ("k_proj", "v_proj", "q_proj", "out_proj"):
            out[p + f"self_attn.{m}.weight"] = (h, h)
            out[p + f"self_attn.{m}.bias"] = (h,)
        for m, a, b in (("fc1", i, h), ("fc2", h, i)):
            out[p + f"mlp.{m}.weight"] = (a, b)
            out[p + f"mlp.{m}.bias"] = (a,)
        for m in ("layer_norm1", "layer_norm2"):
            out[p + f"{m}.weight"] = (h,)
            out[p + f"{m}.bias"] = (h,)
    out["post_layernorm.weight"] = (h,)
    out["post_layernorm.bias"] = (h,)
    return {prefix + k: v for k, v in out.items()}


def shapes(g=REDUCED, towers=True, lm_head=False):
    """Official checkpoint key -> shape.  lm_head is tied: official save_pretrained leaves it out
    of the file, official state_dict() lists it (same storage as embed_tokens).
    """
    out = dict(llm_shapes(g))
    out.update(projector_shapes(g))
    if towers:
        out.update({VM_PREFIX + k: v for k, v in videomamba_shapes(g).items()})
        out.update({CLIP_PREFIX + k: v for k, v in clip_shapes(g).items()})
    if lm_head:
        out["lm_head.weight"] = (g["vocab"], g["hidden"])
    return out


def state_dict(g=REDUCED, towers=True, lm_head=False, salt=""):
    out = {}
    for k, s in shapes(g, towers, lm_head).items():
        src = "model.embed_tokens.weight" if k == "lm_head.weight" else k
        out[k] = param(src, s, salt)
    return out


def videomamba_pth(g=REDUCED, salt=""):
    """State dict of the stand-alone VideoMamba file (its own keys, no wrapper)."""
    return {k: param(VM_PREFIX + k, s, salt) for k, s in videomamba_shapes(g).items()}


def clip_weights(g=REDUCED, salt=""):
    """State dict of the stand-alone CLIP vision folder (its own keys)."""
    return {k: param(CLIP_PREFIX + k, s, salt) for k, s in clip_shapes(g).items()}


# --------------------------------------------------------------------------- inputs


def video_like(key, frames, shape=(3, 224, 224)):
    """(frames, *shape): one shared picture plus a per-frame part whose weight differs by frame."""
    base = unit(f"input/{key}/base", shape)
    amp = [0.35 + 0.8 * ((7 * t) % frames) / frames for t in range(frames)]
    return torch.stack([0.7 * base + amp[t] * unit(f"input/{key}/frame{t}", shape) for t in range(frames)])


def context_features():
    """(2 chunks, 8 frames, 196 tokens, 768): input of the frame selection golden."""
    rows = []
    for c in range(2):
        base = unit(f"input/ctxfeat/{c}/base", (196, 768))
        amp = [0.1 + 0.25 * ((3 * t + 5 * c) % 8) / 8 for t in range(8)]
        rows.append(
            torch.stack([0.2 * base + amp[t] * unit(f"input/ctxfeat/{c}/frame{t}", (196, 768)) for t in range(8)])
        )
    return torch.stack(rows)


RGB_SIZES = {"landscape": (90, 160), "portrait": (160, 90), "large": (360, 480), "square": (224, 224)}


def rgb_frame(name):
    """Synthetic uint8 RGB frame (H, W, 3) for the pixel goldens: coarse blocks plus fine noise."""
    h, w = RGB_SIZES[name]
    if name == "square":
        u = _unit01("input/rgb/square", (h, w, 3))
    else:
        lo = _unit01(f"input/rgb/{name}/lo", (h // 10, w // 10, 3)).repeat(10, 0).repeat(10, 1)
        u = 0.8 * lo + 0.2 * _unit01(f"input/rgb/{name}/hi", (h, w, 3))
    return np.floor(u * 255.0).astype(np.uint8)


def inputs(name):
    """Seeded inputs by name (see golden.json["inputs"])."""
    if name == "vm_clip":  # (1, 3, 8, 224, 224), VideoMamba inner layout B C T H W
        return video_like("vm_clip", 8).permute(1, 0, 2, 3).unsqueeze(0).contiguous()
    if name == "vm_tokens":  # (1, 1569, 576), input of one block
        return unit("input/vm_tokens", (1, 1569, 576))
    if name == "vm_residual":  # (1, 1569, 576), residual given to the second block test
        return unit("input/vm_residual", (1, 1569, 576))
    if name == "vm_image":  # (1, 3, 1, 224, 224), one still picture
        return unit("input/vm_image", (1, 3, 1, 224, 224))
    if name == "mixer_seq":  # (2, 37, 576), short sequence for the mixer alone
        return unit("input/mixer_seq", (2, 37, 576))
    if name == "context_features":
        return context_features()
    if name == "proj_video":  # (2, 196, 576), two chunks of 4 frames x 7x7
        return 0.5 * unit("input/proj_video", (2, 196, 576))
    if name == "proj_image":  # (3, 196, 768), three context images of 14x14
        return 0.25 * unit("input/proj_image", (3, 196, 768))
    if name == "frames_a":  # (16, 3, 224, 224) video frames of sample A
        return video_like("frames_a", 16)
    if name == "context_a":
        return video_like("context_a", 16)
    if name == "frames_b":
        return video_like("frames_b", 16)
    if name == "context_b":
        return video_like("context_b", 16)
    raise KeyError(name)


# --------------------------------------------------------------------------- checkpoint folder


def golden():
    with open(os.path.join(HERE, "golden.json")) as f:
        return json.load(f)


def reduced_config():
    """config.json as the official code writes it after training, for the reduced model."""
    return golden()["config_json"]["reduced"]


CLIP_PREPROCESSOR = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}


def clip_config(g=REDUCED):
    vision = dict(
        model_type="clip_vision_model",
        hidden_size=g["clip_hidden"],
        intermediate_size=g["clip_inter"],
        num_hidden_layers=g["clip_layers"],
        num_attention_heads=g["clip_heads"],
        image_size=g["image"],
        patch_size=g["patch"],
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
        attention_dropout=0.0,
        initializer_factor=1.0,
        initializer_range=0.02,
        projection_dim=512,
        num_channels=3,
    )
    return dict(vision, architectures=["CLIPVisionModel"], torch_dtype="float32")


def write_tokenizer(folder):
    """The tiny byte-level BPE tokenizer, in Qwen2's slow-tokenizer file layout."""
    t = golden()["tiny_tokenizer"]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump(t["vocab"], f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(m + "\n" for m in t["merges"]))
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump(t["tokenizer_config"], f, ensure_ascii=False, indent=1)


def write_checkpoint(
    folder,
    g=REDUCED,
    towers=True,
    ckpt_salt="",
    tower_salt="",
    pth_wrapper="model",
    pth_extra=True,
    clip_layout="vision",
):
    """Write an official-layout checkpoint and the two stand-alone tower sources.

    folder/model/                     config.json, model.safetensors (official keys), tokenizer files
    folder/OpenGVLab/VideoMamba/videomamba_m16_25M_f8_res224.pth
    folder/openai/clip-vit-base-patch16/   config.json, preprocessor_config.json, model.safetensors

    towers       put the two vision towers in model.safetensors too (True is what a full
                 fine-tune / merged save holds; the official loader works with either)
    ckpt_salt    salt for the tower tensors inside model.safetensors
    tower_salt   salt for the stand-alone .pth and CLIP folder.  Official inference reads the
                 stand-alone files last, so they win over the towers in model.safetensors.
    pth_wrapper  'model', 'module' or None: how the .pth wraps its state dict
    pth_extra    add a few non-vision keys to the .pth (the published file is a whole video-text
                 model; official code drops what it does not know)
    clip_layout  'vision': vision-only config.json + model.safetensors.  'full': a two-tower
                 CLIPModel folder (nested vision_config, pytorch_model.bin with text-side keys
                 and an old position_ids buffer), the shape of the published CLIP repository
    """
    from safetensors.torch import save_file

    m = os.path.join(folder, "model")
    os.makedirs(m, exist_ok=True)
    sd = {}
    for k, s in shapes(g, towers).items():
        tower = k.startswith(VM_PREFIX) or k.startswith(CLIP_PREFIX)
        sd[k] = param(k, s, ckpt_salt if tower else "").contiguous()
    save_file(sd, os.path.join(m, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(m, "config.json"), "w") as f:
        json.dump(reduced_config(), f, indent=2)
    write_tokenizer(m)

    v = os.path.join(folder, "OpenGVLab", "VideoMamba")
    os.makedirs(v, exist_ok=True)
    pth = videomamba_pth(g, tower_salt)
    if pth_extra:
        pth["temp"] = torch.tensor(0.07)
        pth["vision_proj.weight"] = unit("extra/vision_proj.weight", (512, g["vm_dim"])) * 0.02
        pth["text_encoder.dummy.weight"] = unit("extra/text_encoder", (4, 4))
    torch.save({pth_wrapper: pth} if pth_wrapper else pth, os.path.join(v, "videomamba_m16_25M_f8_res224.pth"))

    c = os.path.join(folder, "openai", "clip-vit-base-patch16")
    os.makedirs(c, exist_ok=True)
    cw = {k: t.contiguous() for k, t in clip_weights(g, tower_salt).items()}
    cc = clip_config(g)
    if clip_layout == "full":
        cw["vision_model.embeddings.position_ids"] = torch.arange((g["image"] // g["patch"]) ** 2 + 1).unsqueeze(0)
        cw["logit_scale"] = torch.tensor(4.6052)
        cw["visual_projection.weight"] = unit("extra/visual_projection", (512, g["clip_hidden"])) * 0.02
        cw["text_projection.weight"] = unit("extra/text_projection", (512, 512)) * 0.02
        cw["text_model.final_layer_norm.weight"] = torch.ones(512)
        torch.save(cw, os.path.join(c, "pytorch_model.bin"))
        vc = {k: v for k, v in cc.items() if k not in ("architectures", "torch_dtype")}
        cc = {
            "model_type": "clip",
            "architectures": ["CLIPModel"],
            "projection_dim": 512,
            "vision_config": vc,
            "text_config": {"model_type": "clip_text_model"},
            "torch_dtype": "float32",
        }
    else:
        save_file(cw, os.path.join(c, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(c, "config.json"), "w") as f:
        json.dump(cc, f, indent=2)
    with open(os.path.join(c, "preprocessor_config.json"), "w") as f:
        json.dump(CLIP_PREPROCESSOR, f, indent=2)
    return m


def sha(t):
    return hashlib.sha256(np.ascontiguousarray(t.detach().cpu().numpy()).tobytes()).hexdigest()[:16]


def selftest():
    bad = []
    g = golden()["weight_sha256_16"]
    all_shapes = shapes(REDUCED, True)
    for k, want in g["params"].items():
        if sha(param(k, all_shapes[k])) != want:
            bad.append(k)
    for k, want in g["inputs"].items():
        if sha(inputs(k)) != want:
            bad.append("input " + k)
    print(
        "selftest:", "ok" if not bad else f"MISMATCH {bad}", f"({len(g['params'])} params, {len(g['inputs'])} inputs)"
    )
    return not bad


if __name__ == "__main__":
    import sys

    if len(sys.argv) == 3 and sys.argv[1] == "write":
        print(write_checkpoint(sys.argv[2]))
    else:
        raise SystemExit(0 if selftest() else 1)
