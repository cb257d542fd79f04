"""A bot for a chat room: each person has a conversation of their own with the hub.

    thalovant identity create demo --name bot
    some-chat-client | python bot.py bot.identity.json | some-chat-client

A line in is `name: what they said`, a line out `name: the answer`. Bridges to most chats can speak such lines.
"""

import sys

from thalovant import (
    ThalovantClient,
    ThalovantConversation,
    ThalovantError,
    ThalovantIdentity,
    ThalovantUnansweredError,
)


def answer(conversation: ThalovantConversation, text: str) -> str:
    try:
        return conversation.ask(text).display_text
    except ThalovantUnansweredError:
        return "I have no answer to that."
    except ThalovantError as error:
        return f"(something went wrong: {error.code})"


def main() -> None:
    identity = ThalovantIdentity.from_file(sys.argv[1])
    people: dict[str, ThalovantConversation] = {}
    # The roads to the hub in the order that we like them; when one fails, the bot moves along.
    with ThalovantClient(identity, protocols=("wss", "mqtt", "https")) as client:
        for line in sys.stdin:
            name, colon, text = line.strip().partition(":")
            if not (colon and text.strip()):
                continue
            if name not in people:
                people[name] = client.conversation(context={"speaker": name})
            print(f"{name}: {answer(people[name], text.strip())}", flush=True)


if __name__ == "__main__":
    main()
