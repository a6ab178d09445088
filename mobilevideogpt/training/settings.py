"""The settings of a fine-tuning, and the rules between them that no schema can express. Standard library only."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin

from mobilevideogpt.errors import InputError

# These affect speed, memory or what is kept, not the result. `effective_batch_size` represents the first two.
NOT_RESULT_AFFECTING = {
    "batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "save_steps",
    "save_total_limit",
    "deepspeed",
    "processes",
    "nodes",
    "hostfile",
    "num_workers",
    "report_to",
    "max_loss_ratio",
    "keep",
}
LORA_SETTINGS = {"lora_r", "lora_alpha", "lora_dropout"}


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a fine-tuning. The comments in config.yaml explain each; config/schema.yaml has the same defaults.

    ``batch_size`` counts the clips of one forward pass over all processes together, so that the number of processes
    does not affect the result. With ``auto``, the machine decides it and ``gradient_accumulation_steps`` (see
    `training.micro_batch`). A step learns from ``effective_batch_size`` clips, which is the product of the other two
    where ``batch_size`` is a number.

    Raises:
        InputError: If a value is not allowed, or two values exclude each other.
    """

    method: Literal["lora", "full"] = "lora"
    quantization: Literal["none", "nf4"] = "none"
    epochs: float = 10.0
    batch_size: int | Literal["auto"] = "auto"
    gradient_accumulation_steps: int = 1
    effective_batch_size: int = 4
    learning_rate: float = 1e-4
    projector_learning_rate: float = 2e-5
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora_r: int = 64
    lora_alpha: float = 128.0
    lora_dropout: float = 0.05
    max_text_tokens: int = 2048
    group_by_length: bool = False
    balance: Literal["none", "exercise"] = "none"
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False
    save_steps: int = 50
    save_total_limit: int = 2
    keep: Literal["best", "last"] = "last"
    early_stopping_patience: int | None = None
    max_loss_ratio: float | None = 3.0
    deepspeed: Literal["auto", "none", "zero2", "zero3", "zero3_offload"] = "auto"
    processes: int | None = None
    nodes: int = 1
    hostfile: str | None = None
    num_workers: int = 2
    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])
    seed: int = 42

    def __post_init__(self):
        for entry in fields(self):
            self._check_value(entry.name, entry.type)
        self._check_quantization()
        self._check_batch()

    def _check_value(self, name: str, hint: Any) -> None:
        value = getattr(self, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise InputError(f"finetune.{name}: {value!r} is not one of {', '.join(get_args(hint))}; choose one")
        if hint is float or float in get_args(hint):
            if isinstance(value, int):
                object.__setattr__(self, name, float(value))  # 10 and 10.0 have one digest
            elif isinstance(value, str):
                raise InputError(f"finetune.{name}: {value!r} is not a number; write a number")

    def _check_quantization(self) -> None:
        if self.quantization == "none":
            return
        if self.method == "full":
            obstacle = "finetune.method: full, as 4-bit weights cannot be trained"
        elif self.deepspeed.startswith("zero3"):
            obstacle = f"finetune.deepspeed: {self.deepspeed}, as ZeRO-3 cannot partition 4-bit weights"
        else:
            return
        raise InputError(f"finetune.quantization: nf4 does not go with {obstacle}; change one of the two")

    def _check_batch(self) -> None:
        name = "effective_batch_size" if self.batch_size == "auto" else "batch_size"
        if self.batch_size == "auto":
            if self.gradient_accumulation_steps != 1:
                raise InputError(
                    f"finetune.gradient_accumulation_steps: {self.gradient_accumulation_steps} has no effect while "
                    "finetune.batch_size is auto; set finetune.effective_batch_size, or batch_size to a number"
                )
        elif isinstance(self.batch_size, int):
            object.__setattr__(self, "effective_batch_size", self.batch_size * self.gradient_accumulation_steps)
        else:
            raise InputError(f"finetune.batch_size: {self.batch_size!r} is not a number; write a number or auto")
        if self.processes and self.processes % self.nodes:
            raise InputError(
                f"finetune.processes: {self.processes} processes, over all nodes, are not the same number on each of "
                f"{self.nodes}; choose a multiple of finetune.nodes"
            )
        if self.shared % self.nodes:
            raise InputError(
                f"finetune.{name}: {self.nodes} nodes cannot share {self.shared} clips equally; choose a multiple of "
                "finetune.nodes"
            )
        if self.processes and self.shared % self.processes:
            raise InputError(
                f"finetune.{name}: {self.processes} processes cannot share {self.shared} clips equally; "
                "choose a multiple of finetune.processes"
            )

    @property
    def shared(self) -> int:
        """Number of clips that the processes share equally."""
        return self.effective_batch_size if self.batch_size == "auto" else self.batch_size

    def micro_batch(self, processes: int) -> int:
        """Return the clips of a forward pass in each process.

        Raises:
            ValueError: If ``batch_size`` is still ``auto``.
        """
        if self.batch_size == "auto":
            raise ValueError("batch_size is auto; micro_batch.choose_micro_batch resolves it")
        return self.batch_size // processes

    def with_micro_batch(self, clips: int, processes: int) -> "TrainingSettings":
        """Return settings of the same result, with ``clips`` in a forward pass of each process."""
        steps = self.effective_batch_size // (clips * processes)
        return replace(self, batch_size=clips * processes, gradient_accumulation_steps=steps)

    def of_one_node(self) -> "TrainingSettings":
        """Return the settings of one node's share of a step: with the same clips in each of its processes."""
        if self.nodes == 1:
            return self
        shared = "effective_batch_size" if self.batch_size == "auto" else "batch_size"
        share = {shared: self.shared // self.nodes, "processes": self.processes and self.processes // self.nodes}
        return replace(self, nodes=1, hostfile=None, **share)

    @classmethod
    def from_dict(cls, values: dict) -> "TrainingSettings":
        """Build settings from the ``finetune`` part of the configuration.

        Raises:
            InputError: If a key is unknown or a value is not allowed.
        """
        known = [entry.name for entry in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise InputError(f"finetune: unknown setting {', '.join(unknown)}; use one of {', '.join(known)}")
        return cls(**values)

    def result_affecting(self) -> dict:
        """Return the settings that affect the adapter, for its digest."""
        left_out = NOT_RESULT_AFFECTING | (LORA_SETTINGS if self.method == "full" else set())
        return {name: value for name, value in asdict(self).items() if name not in left_out}
