# SPDX-License-Identifier: Apache-2.0
"""How fast, against which ruler."""
