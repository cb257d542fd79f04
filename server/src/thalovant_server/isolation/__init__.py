# SPDX-License-Identifier: Apache-2.0
"""The proof that one client cannot reach another: what an attacker tries, and that none of it works."""
