# SPDX-License-Identifier: Apache-2.0
"""The page of a device login as HTML: sign in, see who asks for what, say yes or no. No script, nothing from elsewhere.

Only text becomes HTML here; nothing is decided.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 26rem; margin: 0 auto; padding: 2rem 1rem; }
label, input, button { display: block; width: 100%; box-sizing: border-box; font: inherit; }
label { margin-top: 1rem; } label.scope { display: flex; gap: 0.6rem; margin-top: 0.3rem; }
label.scope input { width: auto; }
input, button { padding: 0.6rem; border: 1px solid #8888; border-radius: 0.4rem; }
button { margin-top: 1rem; cursor: pointer; } button.yes { background: #1769aa; color: #fff; border-color: #1769aa; }
input[name=user_code] { font: 1.4rem ui-monospace, monospace; letter-spacing: 0.1em; text-transform: uppercase; }
p.fault { border-left: 0.3rem solid #c62828; padding-left: 0.8rem; } dt { color: #777; } dd { margin: 0 0 0.6rem; }
code { font: 0.95em ui-monospace, monospace; overflow-wrap: anywhere; }
:focus-visible { outline: 3px solid #1769aa; outline-offset: 2px; }
"""
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
MEANINGS = {
    "hubs:read": "see your hubs",
    "hubs:write": "make, change and remove your hubs",
    "hubs:inspect": "see what runs on your hubs",
    "hubs:preview": "see previews of your hubs",
    "clients:read": "see your clients",
    "clients:write": "make, change and remove your clients",
    "memory:read": "read memory",
    "memory:write": "write memory",
    "audit:read": "read the audit log",
    "tokens:write": "make and revoke tokens",
    "users:read": "see the accounts of this server",
    "users:write": "invite people and disable accounts",
}


def sign_in(user_code: str, email: str = "", fault: str = "") -> str:
    """Return the first page; what was typed is in it again, but for the password."""
    return _page(
        "Sign in a device",
        _fault(fault),
        "<p>A program shows a code and waits. Type the code and sign in to see what it asks for.</p>",
        '<form method="post" action="device" autocomplete="on">',
        _field("Code", "user_code", user_code, 'autocomplete="off" autocapitalize="characters" spellcheck="false"'),
        _field("E-mail", "email", email, 'autocomplete="username" inputmode="email"'),
        _field("Password", "password", "", 'type="password" autocomplete="current-password"'),
        '<button class="yes" name="step" value="sign-in">Continue</button></form>',
    )


def question(login: Mapping[str, Any], granted: Iterable[str], email: str, ticket: str, now: str) -> str:
    """Return the second page: who asks for what; ``granted`` are the scopes that may be given."""
    name = escape(login["client_name"] or "A program that gives no name")
    return _page(
        "Sign in this device?",
        f"<p><strong>{name}</strong> asks to act as <strong>{escape(email)}</strong>.</p>",
        "<dl><dt>Code</dt>", f"<dd><code>{escape(login['user_code'])}</code></dd>",
        "<dt>Asked from</dt>", f"<dd><code>{escape(login['address'])}</code></dd>",
        "<dt>Asked at</dt>", f"<dd><code>{escape(login['created_at'])}</code>, now <code>{escape(now)}</code></dd>",
        "</dl>",
        "<p>Approve only when you began this yourself, just now, and the program shows this very code. "
        "Nobody has checked the name.</p>",
        '<form method="post" action="device">', f'<input type="hidden" name="ticket" value="{escape(ticket)}">',
        "<fieldset><legend>It may then</legend>", *(_scope(scope) for scope in granted), "</fieldset>",
        '<button class="yes" name="step" value="approve">Approve</button>',
        '<button name="step" value="deny">Deny</button></form>',
    )  # fmt: skip


def message(title: str, text: str) -> str:
    """Return a page that only says something."""
    return _page(title, f"<p>{escape(text)}</p>")


def _page(title: str, *parts: str) -> str:
    head = (
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="robots" content="noindex">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>",
    )  # fmt: skip
    return "\n".join([*head, *parts, "</main></body></html>"])


def _fault(text: str) -> str:
    return f'<p class="fault" role="alert">{escape(text)}</p>' if text else ""


def _field(label: str, name: str, value: str, more: str) -> str:
    return (
        f'<label for="{name}">{label}</label><input id="{name}" name="{name}" value="{escape(value)}" required {more}>'
    )


def _scope(scope: str) -> str:
    said = escape(MEANINGS.get(scope, scope))
    box = f'<input type="checkbox" name="scope" value="{escape(scope)}" checked>'
    return f'<label class="scope">{box} {said} <code>{escape(scope)}</code></label>'
