# SPDX-License-Identifier: Apache-2.0
"""`python -m thalovant_server` is `thalovant-server`."""

from thalovant_server.cli import main

if __name__ == "__main__":
    main()
