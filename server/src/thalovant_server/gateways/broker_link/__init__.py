# SPDX-License-Identifier: Apache-2.0
"""The hubs' way to clients that they meet at an outside broker (architecture decision 3): one MQTT client for all hubs.

Both roads end in the same `hub.session`; here the link key is the credential's topic prefix. `gateway` is where
messages come in and leave, `keeper` dials and dials again; the rest knows neither a socket nor a clock.
"""
