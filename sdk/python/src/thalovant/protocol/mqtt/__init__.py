# SPDX-License-Identifier: Apache-2.0
"""MQTT on the wire, without a socket.

`packets` are the values, `v311` and `v5` turn them into bytes and back (`connect` and `publish` hold what both share,
`property_codec` the properties of 5), `versions` names both, `framing` cuts a byte stream into packets.
"""
