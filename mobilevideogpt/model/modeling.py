"""Mobile-VideoGPT (arXiv:2503.21782): Qwen2 with the visual tokens of a video among its input embeddings.

Module names are the keys of the released checkpoints. Shapes: B videos of F frames, P chunks of 8 frames, L tokens.
"""

from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig, GenerationMixin
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model, Qwen2PreTrainedModel
from transformers.utils.generic import can_return_tuple

from mobilevideogpt.files import write_json
from mobilevideogpt.model.checkpoint import read_checkpoint
from mobilevideogpt.model.clip import ImageTower
from mobilevideogpt.model.configuration import CONTEXT_SIDE, FRAMES_PER_CHUNK, VIDEO_SIDE, MobileVideoGPTConfig
from mobilevideogpt.model.decoding_graphs import AnswerCache
from mobilevideogpt.model.last_layer import IMPLEMENTATIONS, LastLayer
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.official_layout import official_config
from mobilevideogpt.model.precision import ENCODER_PRECISIONS, float32_products
from mobilevideogpt.model.projector import Projector
from mobilevideogpt.model.selection import frame_scores, select_frames
from mobilevideogpt.model.videomamba import Mixer, VideoMamba, VideoTower, init_mixer


class MobileVideoGPTPreTrainedModel(Qwen2PreTrainedModel):
    """Settings of transformers that both classes below share."""

    config_class = MobileVideoGPTConfig
    config: MobileVideoGPTConfig
    _no_split_modules = (
        "Qwen2DecoderLayer",
        "LastLayer",
        "CLIPEncoderLayer",
        "CLIPVisionEmbeddings",
        "Block",
        "VideoMamba",
    )
    _keep_in_fp32_modules_strict = ["vision_tower", "image_vision_tower"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, Mixer):
            init_mixer(module)
        elif isinstance(module, VideoMamba):
            for table in (module.cls_token, module.pos_embed, module.temporal_pos_embedding):
                init.trunc_normal_(table, std=0.02)
        elif isinstance(module, CLIPVisionEmbeddings):
            init.normal_(module.class_embedding, std=module.embed_dim**-0.5)
            init.copy_(module.position_ids, torch.arange(module.num_positions).expand(1, -1))


class MobileVideoGPTModel(MobileVideoGPTPreTrainedModel, Qwen2Model):
    """The decoder, the two frozen encoders and the two projectors."""

    encoder_precision = "fp32"  # see `MobileVideoGPTForConditionalGeneration.set_encoder_precision`

    def __init__(self, config: MobileVideoGPTConfig):
        super().__init__(config)
        self.layers[-1] = LastLayer(config, len(self.layers) - 1)
        self.mm_projector = Projector(config.video_hidden_size, config.hidden_size, VIDEO_SIDE)
        self.image_mm_projector = Projector(config.image_hidden_size, config.hidden_size, CONTEXT_SIDE)
        self.vision_tower = VideoTower(config).requires_grad_(False)
        self.image_vision_tower = ImageTower(config).requires_grad_(False)
        self.post_init()

    def encode_video(
        self, pixel_values_videos: Tensor | None, pixel_values_context: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `MobileVideoGPTForConditionalGeneration.encode_video`; None is reported as missing."""
        video = self._checked("pixel_values_videos", pixel_values_videos)
        context = self._checked("pixel_values_context", pixel_values_context)
        # Without autocast, frozen encoders give the features that were computed beforehand, to the bit.
        frozen = not any(p.requires_grad for p in self.vision_tower.parameters())
        plain = torch.autocast(video.device.type, enabled=False) if frozen else nullcontext()
        with plain, float32_products(video.device.type, tf32=self.encoder_precision in ("auto", "tf32")):
            return self._encode_video(video, context)

    def _checked(self, name: str, pixels: Tensor | None) -> Tensor:
        side, frames = self.config.image_size, self.config.num_frames
        if frames != 2 * self.config.video_num_frames:  # half of each chunk's frames, in one clip, as in training
            raise ValueError(
                f"num_frames is {frames}; set it to twice video_num_frames, which is {self.config.video_num_frames}"
            )
        if pixels is None or pixels.dim() != 5 or pixels.shape[1:] != (frames, 3, side, side):
            found = "missing" if pixels is None else f"of shape {tuple(pixels.shape)}"
            raise ValueError(f"{name} is {found}; give pixels of shape (clips, {frames}, 3, {side}, {side})")
        return pixels

    def _encode_video(self, pixel_values_videos: Tensor, pixel_values_context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frames = pixel_values_videos.unflatten(1, (-1, FRAMES_PER_CHUNK))  # (B, P, 8, 3, H, W)
        count = self.config.video_num_frames // frames.shape[1]
        context = self.image_vision_tower(pixel_values_context.flatten(0, 1))  # (B * F, N, Wi)
        context = context.unflatten(0, pixel_values_context.shape[:2])
        with float32_products(context.device.type, tf32=False):  # near-ties decide which frames are chosen
            scores = frame_scores(context.detach().unflatten(1, (-1, FRAMES_PER_CHUNK)))  # (B, P, 8)
        chosen = select_frames(scores, count, self.config.select_highest)  # (B, P, count)
        frames = frames.gather(2, chosen[..., None, None, None].expand(-1, -1, -1, *frames.shape[3:]))
        video = self.vision_tower(frames.flatten(1, 2))  # (B, P * count, N, Wv)
        side = self.config.patches_per_side
        grid = video.mT.unflatten(-1, (side, side)).flatten(0, 1)  # (B * P * count, Wv, side, side)
        pooled = F.adaptive_avg_pool2d(grid, VIDEO_SIDE).flatten(2).mT  # (B * P * count, 49, Wv)
        return pooled.unflatten(0, (len(context), -1, count)).flatten(2, 3), context, scores.flatten(1)

    def project(self, video_features: Tensor, context_features: Tensor) -> Tensor:
        """Project features to visual tokens ``(B, num_visual_tokens, hidden_size)``, context images before chunks."""
        context = self.image_mm_projector(context_features.flatten(0, 1))  # (B * F, 144, hidden_size)
        video = self.mm_projector(video_features.flatten(0, 1))  # (B * P, 49, hidden_size)
        n = len(video_features)
        return torch.cat([t.unflatten(0, (n, -1)).flatten(1, 2) for t in (context, video)], dim=1)


class MobileVideoGPTForConditionalGeneration(MobileVideoGPTPreTrainedModel, GenerationMixin):
    """Mobile-VideoGPT with its language-modelling head, tied to the token embeddings."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012
    accepts_loss_kwargs = True

    def __init__(self, config: MobileVideoGPTConfig):
        super().__init__(config)
        self.model = MobileVideoGPTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def encode_video(
        self, pixel_values_videos: Tensor, pixel_values_context: Tensor, *, output_scores: bool = False
    ) -> tuple[Tensor, ...]:
        """Encode videos; autograd records nothing unless the parameters of the encoders require a gradient.

        Args:
            pixel_values_videos: Frames standardised for VideoMamba, ``(B, F, 3, H, W)``.
            pixel_values_context: The same frames standardised for CLIP, ``(B, F, 3, H, W)``.
            output_scores: Whether to return the frames' scores, too.

        Returns:
            Video features ``(B, P, 196, video_hidden_size)`` of the frames with the highest attention scores, context
            features ``(B, F, 196, image_hidden_size)``, and the scores ``(B, F)``, see `selection.frame_scores`.
        """
        encoded = self.model.encode_video(pixel_values_videos, pixel_values_context)
        return encoded if output_scores else encoded[:2]

    def set_encoder_precision(self, precision: str) -> None:
        """Choose the precision in which the encoders compute from now on.

        Args:
            precision: ``fp32``, the default; ``tf32``, float32 with products in TF32 on GPUs that have it; ``auto``,
                the same; or ``bf16``, which rounds the weights of the encoders for good.

        Raises:
            ValueError: If it is none of these.
        """
        if precision not in ENCODER_PRECISIONS:
            raise ValueError(f"precision is {precision!r}; set it to one of {', '.join(ENCODER_PRECISIONS)}")
        self.model.encoder_precision = precision
        if precision == "bf16":
            self.model.vision_tower.to(torch.bfloat16)
            self.model.image_vision_tower.to(torch.bfloat16)

    def embed(
        self,
        input_ids: Tensor,
        video_features: Tensor | None = None,
        context_features: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        pixel_values_context: Tensor | None = None,
    ) -> Tensor:
        """Embed tokens, ``(B, L, hidden_size)``, and replace each ``video_token_id`` by the next visual token.

        Raises:
            ValueError: If videos and placeholders do not match. Training on a GPU does not wait for this check; there
                the error is CUDA's failed assertion.
        """
        if pixel_values_videos is not None or pixel_values_context is not None:
            video_features, context_features, _ = self.model.encode_video(pixel_values_videos, pixel_values_context)
        if (video_features is None) != (context_features is None):
            raise ValueError("features of one encoder are missing; give both video_features and context_features")
        places = input_ids == self.config.video_token_id
        expected = 0 if video_features is None else len(video_features) * self.config.num_visual_tokens
        if self.training and places.is_cuda:  # waiting for the number would leave the GPU idle in every step
            message = "input_ids have too many or too few visual placeholders"
            torch._assert_async(places.sum() == expected, message)  # pyright: ignore[reportPrivateImportUsage]
        elif (found := int(places.sum())) != expected:
            raise ValueError(
                f"input_ids have {found} visual placeholders (id {self.config.video_token_id}), but the given videos "
                f"have {expected} visual tokens; write {self.config.num_visual_tokens} placeholders for each video"
            )
        embeds = self.get_input_embeddings()(input_ids.masked_fill(places, 0))
        if video_features is None or context_features is None or not expected:
            return embeds
        visual = self.model.project(video_features, context_features).to(embeds.device, embeds.dtype)
        # Not masked_scatter: its backward pass waits for the device to count the placeholders.
        positions = torch.nonzero_static(places.flatten(), size=expected)[:, 0]
        return embeds.flatten(0, 1).index_copy(0, positions, visual.flatten(0, 1)).view_as(embeds)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        video_features: Tensor | None = None,
        context_features: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        pixel_values_context: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast | tuple:
        """Run the language model over text and videos; each video comes as pixels or as features of `encode_video`.

        Args:
            input_ids: ``(B, L)``, a video as ``num_visual_tokens`` copies of ``video_token_id``.
            attention_mask: ``(B, L)`` including the cached positions; either side may be padded.
            labels: ``(B, L)``, -100 at unsupervised positions; this method shifts them by one.
            logits_to_keep: As in transformers. With labels and 0, logits are computed and returned only at positions
                that predict a label in some row.
            num_items_in_batch: Divisor of the summed loss, instead of the number of labels in this batch.

        Raises:
            ValueError: If videos and placeholders do not match, or not exactly one of ids and embeddings is given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError(
                "both or none of input_ids and inputs_embeds are given; give either input_ids or inputs_embeds"
            )
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if input_ids is not None:
            if past and video_features is None and pixel_values_videos is None:
                # A placeholder among generated tokens is embedded like any other token.
                inputs_embeds = self.get_input_embeddings()(input_ids)
            else:
                inputs_embeds = self.embed(
                    input_ids,
                    video_features,
                    context_features,
                    pixel_values_videos=pixel_values_videos,
                    pixel_values_context=pixel_values_context,
                )
        assert inputs_embeds is not None  # given, or made from input_ids
        if past and isinstance(past_key_values, AnswerCache):
            hidden_states = past_key_values.decode(self.model, inputs_embeds, attention_mask)
            return CausalLMOutputWithPast(logits=self.lm_head(hidden_states), past_key_values=past_key_values)
        if position_ids is None and isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
            if not past and is_padded_on_the_right(attention_mask):
                attention_mask = None  # no token attends to padding on its right; sdpa is faster without a mask
            else:
                position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -inputs_embeds.shape[1] :]
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        if labels is not None:
            labels = shifted(labels)
            if isinstance(logits_to_keep, int) and not logits_to_keep:
                keep = supervised_positions(labels).to(inputs_embeds.device)
        if not past and (kept := self._kept(keep, inputs_embeds, kwargs)) is not None:
            kwargs["kept"] = kept
        outputs = self.model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        if hidden_states.shape[1] == inputs_embeds.shape[1]:  # not left out before
            hidden_states = hidden_states[:, keep]
        logits, loss = self.lm_head(hidden_states), None
        if labels is not None:
            labels = labels[:, keep.to(labels.device) if isinstance(keep, Tensor) else keep]
            loss = self.loss_function(
                logits=logits,
                labels=None,
                shift_labels=labels.contiguous(),
                vocab_size=self.config.vocab_size,
                num_items_in_batch=num_items_in_batch,
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _kept(self, keep: slice | Tensor, x: Tensor, options: dict) -> Tensor | None:
        """Return the positions that the last layer has to compute ``(P,)``; None if all, or if all are asked for."""
        config = self.config
        asked = config.output_attentions or config.output_hidden_states
        asked = asked or any(value is not None and value is not False for value in options.values())
        if asked or config._attn_implementation not in IMPLEMENTATIONS:
            return None
        if hasattr(self.lm_head.weight, "ds_id"):  # ZeRO-3 gathers weights in one order of modules in all processes
            return None
        kept = torch.arange(x.shape[1], device=x.device)[keep]
        return kept if 0 < len(kept) < x.shape[1] else None

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        video_features: Tensor | None = None,
        context_features: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        pixel_values_context: Tensor | None = None,
        **kwargs,
    ):
        """As in transformers, but return only the new ids, without the prompt.

        The prompt is embedded once, with its videos. Prompts of unequal length are padded on the left. ``labels`` are
        ignored.

        Raises:
            ValueError: If videos and placeholders do not match, or there is no prompt.
        """
        kwargs.pop("labels", None)
        config = kwargs.get("generation_config") or self.generation_config
        if config.pad_token_id is None and config.eos_token_id is not None:
            kwargs.setdefault("pad_token_id", torch.as_tensor(config.eos_token_id).flatten()[0].item())
        if kwargs.get("inputs_embeds") is None:
            input_ids = kwargs.pop("inputs", None) if input_ids is None else input_ids
            if input_ids is None:
                raise ValueError("there is no prompt; give input_ids or inputs_embeds")
            features = (video_features, context_features, pixel_values_videos, pixel_values_context)
            kwargs["inputs_embeds"] = self.embed(input_ids, *features)
        # transformers annotates self by a protocol of its own, which no model satisfies.
        return super().generate(**kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def prepare_inputs_for_generation(self, input_ids, *args, inputs_embeds=None, is_first_iteration=False, **kwargs):
        """As in transformers, but without a cache each step gets the embedded prompt in front of the new ids."""
        if inputs_embeds is not None and not is_first_iteration and kwargs.get("use_cache") is False:
            inputs_embeds = torch.cat([inputs_embeds, self.get_input_embeddings()(input_ids)], dim=1)
            is_first_iteration = True
        return super().prepare_inputs_for_generation(  # pyright: ignore[reportAttributeAccessIssue]  # as in generate
            input_ids, *args, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )

    @classmethod
    def from_pretrained(cls, folder_or_repo, *args, video_encoder=None, image_encoder=None, config=None, **kwargs):
        """Load a checkpoint in the released layout, or one of `save_pretrained`'s.

        Args:
            folder_or_repo: Folder or hub id with ``config.json`` and one or several safetensors files.
            video_encoder: VideoMamba's ``.pth`` file, or the hub id of a repository that contains it.
            image_encoder: CLIP folder, or its hub id. Both encoders replace those in the checkpoint. They are optional
                if the checkpoint contains them.
            config: Replaces the configuration of the folder.
            kwargs: As in transformers: ``dtype`` (default: that of the checkpoint; the encoders stay in float32 unless
                the loaded model is cast, as DeepSpeed does), fields of the configuration, ``device_map``,
                ``attn_implementation``, ``revision``, ``local_files_only`` and so on.

        Raises:
            InputError: If a tensor is missing, unexpected or of the wrong shape; the message lists them.
        """
        if "state_dict" in kwargs:  # the caller has read the tensors
            return super().from_pretrained(folder_or_repo, *args, config=config, **kwargs)
        hub = {k: kwargs.pop(k) for k in ("revision", "token", "cache_dir", "local_files_only") if k in kwargs}
        if config is None:
            names = {*MobileVideoGPTConfig.__dataclass_fields__, "output_attentions"} - {"dtype"}
            config = {k: kwargs.pop(k) for k in names & kwargs.keys()}
        folder, config, state_dict = read_checkpoint(cls, folder_or_repo, video_encoder, image_encoder, config, hub)
        model = super().from_pretrained(None, *args, config=config, state_dict=state_dict, **kwargs)
        loaded = model[0] if isinstance(model, tuple) else model
        loaded.config._name_or_path = loaded.name_or_path = str(folder_or_repo)
        if (folder / "generation_config.json").is_file():
            loaded.generation_config = GenerationConfig.from_pretrained(folder)
        loaded.model.vision_tower.requires_grad_(False)
        loaded.model.image_vision_tower.requires_grad_(False)
        return model

    def save_pretrained(self, save_directory, *args, layout: str = "default", **kwargs):
        """As in transformers, with the encoders; either layout has the keys of the released checkpoints.

        Args:
            layout: ``"official"`` writes a ``config.json`` that the original code can read.
        """
        if layout not in ("default", "official"):
            raise ValueError(f"layout is {layout!r}; set it to 'default' or 'official'")
        super().save_pretrained(save_directory, *args, **kwargs)
        if layout == "official":
            write_json(official_config(self.config), Path(save_directory, "config.json"))


def is_padded_on_the_right(attention_mask: Tensor) -> bool:
    """Tell whether each row of ``(B, L)`` is ones and then zeros; a row without padding counts."""
    return bool((attention_mask[:, :-1] >= attention_mask[:, 1:]).all())


def shifted(labels: Tensor) -> Tensor:
    """Return the label that each position of ``(B, L)`` predicts; -100 at the end."""
    return F.pad(labels, (0, 1), value=-100)[:, 1:]


def supervised_positions(predicted: Tensor) -> Tensor:
    """Return the positions at which some row of ``(B, L)`` predicts a label, ``(P,)``."""
    return (predicted != -100).any(0).nonzero()[:, 0]


def load_encoders(paths: ModelPaths, precision: str = "fp32") -> MobileVideoGPTForConditionalGeneration:
    """Load a model for `encode_video` alone; the language model and the projectors are freed."""
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(paths.base, **paths.encoders)
    model.set_encoder_precision(precision)
    model.register_module("lm_head", None)
    for name in ("embed_tokens", "mm_projector", "image_mm_projector"):
        model.model.register_module(name, None)
    model.model.layers = nn.ModuleList()
    return model.eval()


def read_config(paths: ModelPaths) -> MobileVideoGPTConfig:
    """Read the complete configuration of a model; the tensors are read to complete it, and freed."""
    return read_checkpoint(
        MobileVideoGPTForConditionalGeneration, paths.base, **paths.encoders, config={}, hub={}
    ).config


for auto_class in (AutoModelForCausalLM, AutoModelForImageTextToText):  # the latter covers videos
    auto_class.register(MobileVideoGPTConfig, MobileVideoGPTForConditionalGeneration)
