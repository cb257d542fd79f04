# SPDX-License-Identifier: Apache-2.0
"""MQTT on the wire, without a socket.

`packets` are the values, `v311` turns them into bytes and back, `framing` cuts a byte stream into packets. MQTT 5
will be a file beside `v311`.
"""
