# SPDX-License-Identifier: Apache-2.0
"""The names of the events and frames that clients and hubs exchange, as published clients spell them.

What they mean: contract 7 (frames) and 9 (events). Names only.
"""

from __future__ import annotations

EVENT_RECOGNIZER_LOOP_UTTERANCE = "recognizer_loop:utterance"
EVENT_SPEAK = "speak"
EVENT_OVOS_UTTERANCE_SPEAK = "ovos.utterance.speak"
EVENT_UTTERANCE_HANDLED = "ovos.utterance.handled"
EVENT_INTENT_FAILURE = "complete_intent_failure"
EVENT_POLICY_DENIED = "hive.policy.denied"
EVENT_QUERY_TIMEOUT = "hive.query.timeout"
EVENT_AUDIO_QUEUE = "mycroft.audio.queue"
EVENT_INTENT_LIST = "ovos.intent.list"
EVENT_INTENT_LIST_RESPONSE = "ovos.intent.list.response"
EVENT_INTENT_DESCRIBE = "ovos.intent.describe"
EVENT_INTENT_DESCRIBE_RESPONSE = "ovos.intent.describe.response"

HIVE_BROADCAST = "broadcast"
HIVE_PROPAGATE = "propagate"
HIVE_ESCALATE = "escalate"
HIVE_INTERCOM = "intercom"
HIVE_RENDEZVOUS = "rendezvous"
HIVE_KINDS = (HIVE_BROADCAST, HIVE_PROPAGATE, HIVE_ESCALATE, HIVE_INTERCOM, HIVE_RENDEZVOUS)
"""The kinds of frame that `on_hive` hears."""

THALOVANT_CLAIMED_META_KEY = "thalovant_claimed"
"""In a speak's `meta`: true when something that knows the subject answered, whatever its pipeline is called."""
