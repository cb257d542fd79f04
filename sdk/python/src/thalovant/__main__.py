# SPDX-License-Identifier: Apache-2.0
"""`python -m thalovant`: the command line, where the script itself is not on the path."""

from thalovant.cli import main

if __name__ == "__main__":
    main()
