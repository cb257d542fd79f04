# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server` that gives free memory back all the time: what it is charged for is what it holds."""

from functools import partial

from thalovant_server import app
from thalovant_server.cli import main
from thalovant_server.memory import MemoryKeeper

if __name__ == "__main__":
    app.MemoryKeeper = partial(MemoryKeeper, 0.05)  # type: ignore[misc, assignment]
    main()
