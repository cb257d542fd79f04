# SPDX-License-Identifier: Apache-2.0
"""The command line `thalovant`: a file a command; `options`, `output`, `errors` and `progress` are what they share."""

from thalovant.cli.commands import app, main

__all__ = ["app", "main"]
