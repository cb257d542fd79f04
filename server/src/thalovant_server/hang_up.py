# SPDX-License-Identifier: Apache-2.0
"""What SIGHUP means: read the certificates again; or, when the terminal it was started in is gone, stop."""

from __future__ import annotations

import os
import signal


class Terminal:
    """The terminal that the process was started in. Make it at the start."""

    def __init__(self) -> None:
        # Whoever typed nohup wants the server to outlive the terminal.
        self._matters = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def is_gone(self) -> bool:
        """Tell whether it was there and was closed."""
        return self._matters and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
