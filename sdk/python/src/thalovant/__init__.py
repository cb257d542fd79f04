# SPDX-License-Identifier: Apache-2.0
"""Talk to a self-hosted Thalovant: find its hubs, create identities, ask over MQTT, WSS or HTTPS.

What is named here is the public surface; everything else may change. Importing it opens nothing and reads
nothing.
"""

from thalovant.client import AsyncThalovantClient
from thalovant.control_plane import AsyncThalovantControlPlane, BootstrapIdentityResult, ThalovantControlPlane
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
    ThalovantQuota,
    ThalovantRuntimeError,
    ThalovantTimeoutError,
    ThalovantUnansweredError,
    ThalovantUnsupportedConnectionTypeError,
    ThalovantUnsupportedProtocolError,
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
from thalovant.operation import OperationResource, OperationStatus
from thalovant.paths import default_config_path
from thalovant.reply import ThalovantReply
from thalovant.subscriptions import EventHandler, EventPredicate, ThalovantSubscription
from thalovant.sync_client import ThalovantClient
from thalovant.version import __version__

__all__ = [
    "DEFAULT_PROTOCOL_PREFERENCE",
    "AsyncThalovantClient",
    "AsyncThalovantControlPlane",
    "BootstrapIdentityResult",
    "EventHandler",
    "EventPredicate",
    "HubDataPlaneEndpoints",
    "HubProtocol",
    "HubProtocolSettings",
    "MqttBrokerCredentials",
    "OperationResource",
    "OperationStatus",
    "SelectedHubEndpoint",
    "ThalovantAPIError",
    "ThalovantAPIUnreachableError",
    "ThalovantAdmissionFailedError",
    "ThalovantAdmissionTimeoutError",
    "ThalovantAlreadyLinkedError",
    "ThalovantAuthError",
    "ThalovantClient",
    "ThalovantClientKeyRejectedError",
    "ThalovantConnectionError",
    "ThalovantConnectionInfo",
    "ThalovantControlPlane",
    "ThalovantDeviceLoginDenied",
    "ThalovantDeviceLoginExpired",
    "ThalovantDeviceLoginPending",
    "ThalovantError",
    "ThalovantEvent",
    "ThalovantHealth",
    "ThalovantHubKeyChangedError",
    "ThalovantHubRefusedError",
    "ThalovantIdentity",
    "ThalovantIdentityError",
    "ThalovantPlanError",
    "ThalovantPolicyDeniedError",
    "ThalovantQuota",
    "ThalovantReply",
    "ThalovantRuntimeError",
    "ThalovantSubscription",
    "ThalovantTimeoutError",
    "ThalovantUnansweredError",
    "ThalovantUnsupportedConnectionTypeError",
    "ThalovantUnsupportedProtocolError",
    "__version__",
    "default_config_path",
    "hub_display_name",
    "select_data_plane_endpoint",
    "strip_ssml",
]
