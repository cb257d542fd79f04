# SPDX-License-Identifier: Apache-2.0
"""The version of this SDK and the name it gives itself. Nothing else."""

from __future__ import annotations

__version__ = "0.1.0"

USER_AGENT = f"OpenThalovantPythonSDK/{__version__}"
"""Sent to the control plane, and part of the peer name at a hub (contract 2, 6.3)."""
