# SPDX-License-Identifier: Apache-2.0
"""What a client may do when its policy does not say: one row for each `connection_type` that has a preset.

Least privilege: a row grants what clients of its kind need, and why is written beside it. Any other type, or none, has
`DEFAULT`. docs/operations.md shows this table. Knows no client.
"""

from __future__ import annotations

from dataclasses import dataclass

from thalovant_server.directory import Permissions, RateLimit

UTTERANCE = "recognizer_loop:utterance"
# What a satellite tells of its ears and its mouth.
_AUDIO = (
    "recognizer_loop:wakeword",
    "recognizer_loop:record_begin",
    "recognizer_loop:record_end",
    "recognizer_loop:audio_output_start",
    "recognizer_loop:audio_output_end",
)
# How intents and skills are listed and described (contract 9.6).
_LISTINGS = (
    "ovos.intent.list",
    "ovos.intent.describe",
    "ovos.skills.list",
    "intent.service.adapt.manifest.get",
    "intent.service.padatious.manifest.get",
)


@dataclass(frozen=True, slots=True)
class Preset:
    """What a kind of client may do, and why exactly that."""

    permissions: Permissions
    reason: str


def _may(*types: str, query: bool = True, propagate: bool = False, rate: RateLimit | None = None) -> Permissions:
    return Permissions(frozenset(types), can_propagate=propagate, can_escalate=query, rate_limit=rate)


DEFAULT = Permissions()
PRESETS = {
    "voice_satellite": Preset(
        _may(UTTERANCE, *_AUDIO),
        "It asks, and tells of its microphone and loudspeaker. It speaks for nobody else.",
    ),
    "web_chat": Preset(
        _may(UTTERANCE, rate=RateLimit(60, 60)),
        "Anybody may type there, so it has a rate limit: 60 messages a minute are more than a person writes.",
    ),
    "developer": Preset(
        _may(UTTERANCE, "ovos.utterance.handle", *_LISTINGS, propagate=True),
        "Whoever builds looks around: both names of an utterance, the listings of intents and skills.",
    ),
    "embedded": Preset(
        _may(UTTERANCE, query=False),
        "A device in the field that can be stolen: it asks, and nothing else.",
    ),
    "home_assistant": Preset(
        _may(UTTERANCE, "thalovant.home.response"),
        "It asks, and answers what the hub asks the house.",
    ),
}


def preset_of(connection_type: object) -> str | None:
    """Return the name of the preset that a `connection_type` has, None for the default."""
    return connection_type if isinstance(connection_type, str) and connection_type in PRESETS else None


def preset_permissions(connection_type: object) -> Permissions:
    """Return what a client of this `connection_type` may do when its policy does not say."""
    name = preset_of(connection_type)
    return DEFAULT if name is None else PRESETS[name].permissions
