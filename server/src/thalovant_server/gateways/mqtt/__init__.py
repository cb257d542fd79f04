# SPDX-License-Identifier: Apache-2.0
"""The embedded MQTT endpoint: a gateway to the hub that speaks MQTT 3.1.1, not a general broker.

`session` is one connection's rules without a socket, `window` its outgoing order, `dialogue` which hub
session its payloads belong to, `connection` the socket, `presence` who is online, `roster` who is connected,
`endpoint` the whole.
"""
