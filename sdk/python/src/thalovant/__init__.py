# SPDX-License-Identifier: Apache-2.0
"""Talk to a self-hosted Thalovant: find its hubs, create identities, ask over MQTT, WSS or HTTPS.

What is named here is the public surface; everything else may change. Importing it opens nothing and reads
nothing.
"""

from thalovant.binaries import ThalovantBinary
from thalovant.client import AsyncThalovantClient
from thalovant.client_context import build_client_context, build_location, request_context
from thalovant.control_plane import AsyncThalovantControlPlane, BootstrapIdentityResult, ThalovantControlPlane
from thalovant.conversation import AsyncThalovantConversation
from thalovant.device_login import ApiToken, DeviceAuthorization, DeviceLoginRequest
from thalovant.display import ThalovantDisplayItem
from thalovant.doctor import ThalovantDoctorCheck, ThalovantDoctorReport
from thalovant.errors import (
    ThalovantAdmissionFailedError,
    ThalovantAdmissionTimeoutError,
    ThalovantAlreadyLinkedError,
    ThalovantAPIError,
    ThalovantAPIUnreachableError,
    ThalovantAuthError,
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantDeviceLoginDenied,
    ThalovantDeviceLoginExpired,
    ThalovantDeviceLoginPending,
    ThalovantError,
    ThalovantHubKeyChangedError,
    ThalovantHubRefusedError,
    ThalovantIdentityError,
    ThalovantPlanError,
    ThalovantPolicyDeniedError,
    ThalovantPublishDeniedError,
    ThalovantPublishTooLargeError,
    ThalovantQuota,
    ThalovantRuntimeError,
    ThalovantTimeoutError,
    ThalovantUnansweredError,
    ThalovantUnsupportedConnectionTypeError,
    ThalovantUnsupportedProtocolError,
)
from thalovant.event_names import (
    EVENT_AUDIO_QUEUE,
    EVENT_INTENT_DESCRIBE,
    EVENT_INTENT_DESCRIBE_RESPONSE,
    EVENT_INTENT_FAILURE,
    EVENT_INTENT_LIST,
    EVENT_INTENT_LIST_RESPONSE,
    EVENT_OVOS_UTTERANCE_SPEAK,
    EVENT_POLICY_DENIED,
    EVENT_QUERY_TIMEOUT,
    EVENT_RECOGNIZER_LOOP_UTTERANCE,
    EVENT_SPEAK,
    EVENT_UTTERANCE_HANDLED,
    HIVE_BROADCAST,
    HIVE_ESCALATE,
    HIVE_INTERCOM,
    HIVE_KINDS,
    HIVE_PROPAGATE,
    HIVE_RENDEZVOUS,
    THALOVANT_CLAIMED_META_KEY,
)
from thalovant.events import ThalovantEvent
from thalovant.health import ThalovantConnectionInfo, ThalovantHealth
from thalovant.hub_endpoints import (
    DEFAULT_PROTOCOL_PREFERENCE,
    HubDataPlaneEndpoints,
    HubProtocol,
    HubProtocolSettings,
    SelectedHubEndpoint,
    hub_display_name,
    select_data_plane_endpoint,
)
from thalovant.identity import ThalovantIdentity
from thalovant.markup import strip_ssml
from thalovant.mqtt_credentials import MqttBrokerCredentials
from thalovant.mqtt_topics import MqttTopicSet, mqtt_topics_for_identity
from thalovant.operation import OperationResource, OperationStatus
from thalovant.paths import default_config_path
from thalovant.presence import ClientPresence
from thalovant.reply import ThalovantReply
from thalovant.subscriptions import EventHandler, EventPredicate, ThalovantSubscription
from thalovant.sync_client import ThalovantClient
from thalovant.sync_conversation import ThalovantConversation
from thalovant.version import __version__

__all__ = [
    "DEFAULT_PROTOCOL_PREFERENCE",
    "EVENT_AUDIO_QUEUE",
    "EVENT_INTENT_DESCRIBE",
    "EVENT_INTENT_DESCRIBE_RESPONSE",
    "EVENT_INTENT_FAILURE",
    "EVENT_INTENT_LIST",
    "EVENT_INTENT_LIST_RESPONSE",
    "EVENT_OVOS_UTTERANCE_SPEAK",
    "EVENT_POLICY_DENIED",
    "EVENT_QUERY_TIMEOUT",
    "EVENT_RECOGNIZER_LOOP_UTTERANCE",
    "EVENT_SPEAK",
    "EVENT_UTTERANCE_HANDLED",
    "HIVE_BROADCAST",
    "HIVE_ESCALATE",
    "HIVE_INTERCOM",
    "HIVE_KINDS",
    "HIVE_PROPAGATE",
    "HIVE_RENDEZVOUS",
    "THALOVANT_CLAIMED_META_KEY",
    "ApiToken",
    "AsyncThalovantClient",
    "AsyncThalovantControlPlane",
    "AsyncThalovantConversation",
    "BootstrapIdentityResult",
    "ClientPresence",
    "DeviceAuthorization",
    "DeviceLoginRequest",
    "EventHandler",
    "EventPredicate",
    "HubDataPlaneEndpoints",
    "HubProtocol",
    "HubProtocolSettings",
    "MqttBrokerCredentials",
    "MqttTopicSet",
    "OperationResource",
    "OperationStatus",
    "SelectedHubEndpoint",
    "ThalovantAPIError",
    "ThalovantAPIUnreachableError",
    "ThalovantAdmissionFailedError",
    "ThalovantAdmissionTimeoutError",
    "ThalovantAlreadyLinkedError",
    "ThalovantAuthError",
    "ThalovantBinary",
    "ThalovantClient",
    "ThalovantClientKeyRejectedError",
    "ThalovantConnectionError",
    "ThalovantConnectionInfo",
    "ThalovantControlPlane",
    "ThalovantConversation",
    "ThalovantDeviceLoginDenied",
    "ThalovantDeviceLoginExpired",
    "ThalovantDeviceLoginPending",
    "ThalovantDisplayItem",
    "ThalovantDoctorCheck",
    "ThalovantDoctorReport",
    "ThalovantError",
    "ThalovantEvent",
    "ThalovantHealth",
    "ThalovantHubKeyChangedError",
    "ThalovantHubRefusedError",
    "ThalovantIdentity",
    "ThalovantIdentityError",
    "ThalovantPlanError",
    "ThalovantPolicyDeniedError",
    "ThalovantPublishDeniedError",
    "ThalovantPublishTooLargeError",
    "ThalovantQuota",
    "ThalovantReply",
    "ThalovantRuntimeError",
    "ThalovantSubscription",
    "ThalovantTimeoutError",
    "ThalovantUnansweredError",
    "ThalovantUnsupportedConnectionTypeError",
    "ThalovantUnsupportedProtocolError",
    "__version__",
    "build_client_context",
    "build_location",
    "default_config_path",
    "hub_display_name",
    "mqtt_topics_for_identity",
    "request_context",
    "select_data_plane_endpoint",
    "strip_ssml",
]
