# SPDX-License-Identifier: Apache-2.0
"""Telling an outside broker who may connect, and what each may do there. Carries no message."""
