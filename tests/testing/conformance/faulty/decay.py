"""Faults for the rules in `decay`."""

from typing import Any

import optax

from tests.testing.conformance.faulty.support import Fault, Transformation
from tests.testing.conformance.sound import by_rate, scale_by_sound_adam, sound_adam


def couples_decay(
    learning_rate: Any = 0.1, weight_decay: Any = 0.0, weight_decay_mask: Any = None
) -> Transformation:
    decay = optax.add_decayed_weights(weight_decay, weight_decay_mask)
    return optax.chain(decay, sound_adam(learning_rate))


def calls_callable_masks(
    learning_rate: Any = 0.1, weight_decay: Any = 0.0, weight_decay_mask: Any = None
) -> Transformation:
    mask = weight_decay_mask
    called = (lambda params: mask(params)) if callable(mask) else mask
    decay = optax.add_decayed_weights(weight_decay, called)
    return optax.chain(scale_by_sound_adam(), decay, by_rate(learning_rate))


def decays_in_the_momentum(
    learning_rate: Any = 0.1, weight_decay: Any = 0.0
) -> Transformation:
    decay = optax.add_decayed_weights(weight_decay)
    momentum = optax.ema(0.9)
    return optax.chain(scale_by_sound_adam(), decay, momentum, by_rate(learning_rate))


def decays_in_optional_momentum(
    learning_rate: Any = 0.1, momentum: Any = 0.0, weight_decay: Any = 0.0
) -> Transformation:
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(decay, optax.trace(momentum), by_rate(learning_rate))


FAULTS = {
    "couples the decay": Fault(
        couples_decay, "weight_decay_is_decoupled", "not proportional"
    ),
    "calls a callable mask": Fault(
        calls_callable_masks, "weight_decay_mask_is_any_mask", "raised"
    ),
    "decays in optional momentum": Fault(
        decays_in_optional_momentum, "weight_decay_is_decoupled", "is in the momentum"
    ),
    "decays in the momentum": Fault(
        decays_in_the_momentum, "weight_decay_is_decoupled", "is in the momentum"
    ),
}
