# SPDX-License-Identifier: Apache-2.0
"""The API's routes, one file a resource. Each only takes a request apart and puts an answer together."""
