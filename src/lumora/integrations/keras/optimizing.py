"""The optimizer and the learning rates of transformers' TensorFlow guides, from Keras's own parts."""

from __future__ import annotations

from typing import Any, Literal

from lumora.errors import ConfigError
from lumora.integrations.keras.library import keras, ops

Decay = Literal["polynomial", "cosine"]

_NOT_DECAYED = (r"(^|/)(bias|beta|gamma)(:\d+)?$",)
"""The names of biases and norms; on TensorFlow the optimizer sees them as `layer/bias:0`."""

_schedules = keras.optimizers.schedules


@keras.saving.register_keras_serializable("lumora")
class WarmUp(_schedules.LearningRateSchedule):
    """A rate that rises to its full value first, and then follows another schedule.

    Args:
        rate: the full value.
        steps: how many steps it rises for.
        then: the schedule afterwards; its steps count from there.
        power: 1 rises in a straight line.
    """

    def __init__(self, rate: float, steps: int, then: Any, power: float = 1.0) -> None:
        super().__init__()
        self.rate, self.steps, self.then, self.power = rate, steps, then, power

    def __call__(self, step: Any) -> Any:
        """The rate at a step, counted from 0."""
        now = ops.cast(step, "float32")
        rising = self.rate * ops.power(ops.minimum(now / max(1, self.steps), 1.0), self.power)
        return ops.where(now < self.steps, rising, self.then(ops.maximum(now - self.steps, 0.0)))

    def get_config(self) -> dict[str, Any]:
        """What it is made of."""
        return {
            "rate": self.rate,
            "steps": self.steps,
            "then": keras.saving.serialize_keras_object(self.then),
            "power": self.power,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        """The one that `get_config` was called on."""
        return cls(**{**config, "then": keras.saving.deserialize_keras_object(config["then"])})


def create_schedule(
    rate: float,
    steps: int,
    *,
    warmup: int = 0,
    decay: Decay = "polynomial",
    end: float = 0.0,
    power: float = 1.0,
) -> Any:
    """A learning rate that rises over `warmup` steps and falls over the others.

    Args:
        rate: the largest value.
        steps: all steps of the training.
        warmup: how many of them the rate rises for.
        decay: "polynomial", a straight line with `power=1`, or "cosine".
        end: the last value, as a share of the largest.
        power: of the polynomial.

    >>> schedule = create_schedule(0.1, 100, warmup=20)
    >>> [round(float(schedule(step)), 3) for step in (0, 10, 20, 60, 100)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    _check(rate, steps, warmup, decay, end)
    falling = steps - warmup
    if decay == "cosine":
        after = _schedules.CosineDecay(rate, falling, alpha=end)
    else:
        after = _schedules.PolynomialDecay(rate, falling, end_learning_rate=rate * end, power=power)
    return WarmUp(rate, warmup, after) if warmup else after


def create_optimizer(
    init_lr: float,
    num_train_steps: int,
    num_warmup_steps: int = 0,
    *,
    weight_decay_rate: float = 0.0,
    decay: Decay = "polynomial",
    min_lr_ratio: float = 0.0,
    power: float = 1.0,
    clip_norm: float | None = None,
) -> tuple[Any, Any]:
    """AdamW and its learning rate, as transformers' function of this name gave them.

    Weight decay leaves biases and norms alone.

    Args:
        init_lr: the largest learning rate.
        num_train_steps: all steps of the training.
        num_warmup_steps: how many of them the rate rises for.
        weight_decay_rate: how strongly weights are drawn to 0.
        decay: how the rate falls, see `create_schedule`.
        min_lr_ratio: the last rate, as a share of the largest.
        power: of the polynomial.
        clip_norm: the largest norm of all gradients together.
    """
    schedule = create_schedule(
        init_lr, num_train_steps, warmup=num_warmup_steps, decay=decay, end=min_lr_ratio, power=power
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=weight_decay_rate, epsilon=1e-8, global_clipnorm=clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=list(_NOT_DECAYED))
    return optimizer, schedule


def _check(rate: float, steps: int, warmup: int, decay: str, end: float) -> None:
    problems: list[str] = []
    if rate <= 0:
        problems.append(f"the rate is {rate}; it must be above 0")
    if not 0 <= warmup < steps:
        problems.append(f"{warmup} steps of {steps} are for warming up; it must be at least 0 and fewer than all")
    if decay not in ("polynomial", "cosine"):
        problems.append(f"decay is {decay!r}; it must be 'polynomial' or 'cosine'")
    if not 0 <= end <= 1:
        problems.append(f"the last rate is {end} of the largest; it must lie between 0 and 1")
    if problems:
        raise ConfigError("The schedule cannot be made: " + "; ".join(problems) + ".")
