# SPDX-License-Identifier: Apache-2.0
"""The embedded MQTT endpoint: a gateway to the hub that speaks MQTT 3.1.1 and 5.0, not a general broker.

`session` is one connection's rules without a socket: `terms` what its CONNECT fixed, `rights` what a client may publish
and hear, `reasons` what MQTT 5 says of each refusal and end, `window` the outgoing order. `dialogue` is which hub
session its payloads belong to, `connection` the socket and `websocket` the other kind of one, `presence` who is online,
`roster` who is connected, `endpoint` the whole.
"""
