"""The one prompt builder, used by training, evaluation and inference: chat text to token ids and labels.

The template is Qwen2.5's. The labels follow the rule that the released model was trained with.
"""

from functools import lru_cache

from transformers import PreTrainedTokenizerBase

VIDEO = "<video>"  # in the text, the place of the visual tokens
SYSTEM = "You are a helpful assistant."
IGNORED = -100
# Supervised in every turn: the additional special tokens of the original slow tokenizer.
SUPERVISED = (
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def with_video(prompt: str) -> str:
    """Return the prompt with ``<video>`` in it, in front if it is absent or alone on the last line.

    Raises:
        ValueError: If the prompt contains it more than once.
    """
    count = prompt.count(VIDEO)
    if count > 1:
        raise ValueError(f"the prompt {prompt!r} contains {VIDEO} {count} times; a sample has one video, so keep one")
    if prompt.endswith(f"\n{VIDEO}"):
        prompt = prompt.removesuffix(f"\n{VIDEO}")
    return prompt if VIDEO in prompt else f"{VIDEO}\n{prompt}"


def encode_turns(
    tokenizer: PreTrainedTokenizerBase, turns: list[tuple[str, str]], video_token_id: int, num_visual_tokens: int
) -> tuple[list[int], list[int]]:
    """Return token ids and labels of a conversation.

    The assistant's turns are supervised, from their header to the line break after them. In the other turns, the tokens
    `SUPERVISED` are. Visual tokens are never supervised.

    Args:
        tokenizer: Qwen2's, or one with its special tokens.
        turns: Pairs of role (``user``, ``assistant``) and text. If the last is the user's, the header of the answer
            follows.
        video_token_id: Id of each visual token.
        num_visual_tokens: Visual tokens of one ``<video>``.
    """
    supervised = _supervised(tokenizer)
    input_ids: list[int] = []
    labels: list[int] = []

    def add(text: str, is_answer: bool) -> None:
        if text:
            ids = _token_ids(tokenizer, text)
            input_ids.extend(ids)
            labels.extend(ids if is_answer else (i if i in supervised else IGNORED for i in ids))

    for role, text in [("system", SYSTEM), *turns]:
        before, *after = f"<|im_start|>{role}\n{text}<|im_end|>\n".split(VIDEO)
        add(before, role == "assistant")
        for text_after in after:
            input_ids.extend([video_token_id] * num_visual_tokens)
            labels.extend([IGNORED] * num_visual_tokens)
            add(text_after, role == "assistant")
    if turns[-1][0] == "user":
        add("<|im_start|>assistant\n", True)
    return input_ids, labels


@lru_cache(maxsize=8)
def _supervised(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    found = (tokenizer.convert_tokens_to_ids(name) for name in SUPERVISED)
    return frozenset(i for i in found if isinstance(i, int) and i != tokenizer.unk_token_id)


@lru_cache(maxsize=1024)  # a data set has few prompts
def _token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))
