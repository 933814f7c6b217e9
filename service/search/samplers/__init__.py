"""Samplers: which configurations to try next, given what has been tried."""

from service.search.samplers.asking import Refuse, ask
from service.search.samplers.choosing import (
    INLINE,
    MODEL_BASED,
    SAMPLERS,
    choose_batch_size,
    choose_sampler,
    resolve_sampler,
    sampler_notes,
)
from service.search.samplers.process import Handle, SamplerProcess
from service.search.samplers.told import (
    Ask,
    Asked,
    Told,
    batch_seed,
    deterministic_view,
    params_key,
)

__all__ = [
    "INLINE",
    "MODEL_BASED",
    "SAMPLERS",
    "Ask",
    "Asked",
    "Handle",
    "Refuse",
    "SamplerProcess",
    "Told",
    "ask",
    "batch_seed",
    "choose_batch_size",
    "choose_sampler",
    "deterministic_view",
    "params_key",
    "resolve_sampler",
    "sampler_notes",
]
