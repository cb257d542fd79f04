# SPDX-License-Identifier: Apache-2.0
"""A logger that says nothing, for a library whose own log shows request lines and frames: those hold secrets."""

import logging

SILENT = logging.getLogger("thalovant.silent")
SILENT.propagate = False
SILENT.setLevel(logging.CRITICAL + 1)
