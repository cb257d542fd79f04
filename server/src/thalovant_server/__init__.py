# SPDX-License-Identifier: Apache-2.0
"""The server of the self-hosted Thalovant: one asyncio process that holds hubs, their clients and their roads."""

__version__ = "0.1.0"
