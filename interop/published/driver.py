# SPDX-License-Identifier: Apache-2.0
"""Drives the published SDK from outside: one JSON command a line in, one JSON answer a line out.

It runs in the published SDK's own environment and imports nothing of ours. `thalovant` here is theirs.
"""

import contextlib
import io
import json
import pathlib
import queue
import sys
import threading
import time

import thalovant
from thalovant import ThalovantClient, ThalovantControlPlane, ThalovantIdentity

CLIENTS = {}


def login(url, email, password):
    api = ThalovantControlPlane(url)
    api.login(email, password)
    return api


def create_identity(url, email, password, hub, name, file):
    """Create an identity and keep it in a file, as a device would."""
    result = login(url, email, password).create_client_identity(hub, name=name, preferred_protocols=("mqtt", "wss"))
    with open(file, "w", opener=lambda path, flags: __import__("os").open(path, flags, 0o600)) as out:
        json.dump(result.identity.as_dict(include_secrets=True), out)
    return {
        "client_id": result.client_id,
        "mqtt": result.identity.mqtt is not None,
        "endpoint": str(result.endpoint),
    }


def begin_device_login(url, key, scopes, client_name):
    """Begin a device login; what the published SDK read of the answer, but for the secret."""
    api = ThalovantControlPlane(url)
    CLIENTS[key] = (api, api.begin_device_login(scopes=scopes, client_name=client_name))
    begun = CLIENTS[key][1]
    return {"user_code": begun.user_code, "uri": begun.verification_uri_complete, "interval": begun.interval}


def poll_device_login(key):
    """Ask once; the name of the outcome, and what the token can do."""
    api, begun = CLIENTS[key]
    try:
        token = api.poll_device_login(begun)
    except thalovant.ThalovantAPIError as error:
        return {"error": type(error).__name__}
    hubs = [hub["slug"] for hub in api.list_hubs()["data"]]
    return {
        "scopes": list(token.scopes),
        "has_id": bool(token.token_id),
        "expires": bool(token.expires_at),
        "hubs": hubs,
    }


def describe_device_login(url, email, password, user_code):
    """What the published SDK shows somebody who is about to approve."""
    asked = login(url, email, password).describe_device_login(user_code)
    return {"scopes": list(asked.scopes), "client_name": asked.client_name, "client_verified": asked.client_verified}


def login_with_browser(url, shown):
    """Sign in by a browser; what is to be shown goes to a file, where the test finds the code."""

    def prompt(begun):
        part = pathlib.Path(shown + ".part")
        part.write_text(json.dumps({key: str(value) for key, value in begun.items()}))
        part.rename(shown)

    api = ThalovantControlPlane(url)
    told = api.login_with_browser(open_browser=False, prompt=prompt, timeout=60)
    before = [hub["slug"] for hub in api.list_hubs()["data"]]
    api.revoke_api_token()
    return {"members": sorted(told), "hubs": before}


def open_client(key, file, protocol, noise):
    client = ThalovantClient(ThalovantIdentity.from_file(file), protocol=protocol, noise_state_dir=noise)
    client.connect()
    CLIENTS[key] = client
    return client.connection_info().as_dict()


def ask(key, text, timeout=12.0, settle=None):
    started = time.perf_counter()
    reply = CLIENTS[key].ask(text, timeout=timeout)
    return {
        "text": reply.text,
        "utterances": list(reply.utterances),
        "handled": reply.handled,
        "ms": round((time.perf_counter() - started) * 1000, 2),
    }


def ask_many(key, texts, settle=0.0):
    """Milliseconds of each ask, one after the other, with the settle window as given."""
    took = []
    for text in texts:
        started = time.perf_counter()
        CLIENTS[key].ask(text)
        took.append((time.perf_counter() - started) * 1000)
    return took


def query(key, text, timeout=12.0):
    reply = CLIENTS[key].query(text, timeout=timeout)
    return {
        "text": reply.text,
        "utterances": list(reply.utterances),
        "handled": reply.handled,
        "events": [event.name for event in reply.events],
    }


def converse(key, texts, session_id=None):
    """Ask in a conversation, then query in it; the answers and its session."""
    with CLIENTS[key].conversation(session_id=session_id) as talk:
        answers = [talk.ask(text).text for text in texts]
        return {"session_id": talk.session_id, "answers": answers, "query": talk.query("query").text}


def listen(key, text, event="speak", max_events=3, timeout=20.0):
    """Send the text again and again until so many events were heard."""
    client, done = CLIENTS[key], threading.Event()

    def send():
        while not done.wait(0.1):
            client.send_utterance(text)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        heard = [
            {"text": event.text, "session_id": event.session_id, "request_id": event.request_id}
            for event in client.listen(event, timeout=timeout, max_events=max_events)
        ]
    finally:
        done.set()
        sender.join()
    return heard


def reply_to(key, text, answer, timeout=20.0):
    """Send a text, and reply to its first speak with another; what is spoken then, and the contexts of both."""
    client, heard = CLIENTS[key], queue.Queue()
    with client.on("speak", heard.put):
        client.send_utterance(text)
        first = heard.get(timeout=timeout)
        client.reply(first, "recognizer_loop:utterance", {"utterances": [answer], "lang": "en-us"})
        second = heard.get(timeout=timeout)
    return [{"text": event.text, "context": event.context} for event in (first, second)]


def act(key, timeout=20.0):
    """Send an action and a code; what is spoken then."""
    client, heard = CLIENTS[key], queue.Queue()
    with client.on("speak", heard.put):
        client.send_action("/yes", title="Yes")
        first = heard.get(timeout=timeout)
        client.send_code("1234", label="PIN")
        return [first.text, heard.get(timeout=timeout).text]


def emit(key, event, data):
    CLIENTS[key].emit(event, data)
    return True


def wait_for_event(key, send, wait, timeout=5.0):
    """Emit one event and wait for another."""
    seen = []
    client = CLIENTS[key]
    with client.on(wait, seen.append):
        client.emit(send, {})
        deadline = time.monotonic() + timeout
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
    return [{"name": event.name, "data": event.data, "context": event.context} for event in seen]


def close(key):
    CLIENTS.pop(key).close()
    return True


def run_file(file, argv=()):
    """Run a program as it stands, in this environment; its output is the answer."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(pathlib.Path(file).read_text(), file, "exec"), {"__name__": "__main__"})
    return out.getvalue()


def version():
    import importlib.metadata

    return {"version": importlib.metadata.version("thalovant"), "file": thalovant.__file__}


OFFERED = (create_identity, open_client, ask, ask_many, query, converse, listen, reply_to, act, emit, wait_for_event)
DEVICE = (begin_device_login, poll_device_login, describe_device_login, login_with_browser)
COMMANDS = {f.__name__: f for f in (*OFFERED, *DEVICE, close, run_file, version)}


def main():
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"ok": COMMANDS[command.pop("do")](**command)}
        except Exception as error:
            mro = [kind.__name__ for kind in type(error).__mro__]
            answer = {
                "error": type(error).__name__,
                "kinds": mro,
                "text": str(error),
                "code": getattr(error, "code", None),
                "quota": vars(quota) if (quota := getattr(error, "quota", None)) is not None else None,
            }
        print(json.dumps(answer), flush=True)


main()
