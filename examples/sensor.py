"""A sensor that tells a hub over MQTT what it measures, and does what the answer says.

    thalovant identity create demo --name greenhouse --protocol mqtt
    python sensor.py greenhouse.identity.json --every 60

`ask` connects when there is no connection; a reading that got no answer is told and forgotten.
"""

import argparse
import contextlib
import random
import time

from thalovant import ThalovantClient, ThalovantError, ThalovantIdentity


def read_degrees() -> float:
    """Your sensor's driver goes here."""
    return round(random.uniform(15.0, 40.0), 1)


def act_on(answer: str) -> None:
    """So does your window's motor."""
    if "open the window" in answer.lower():
        print("-> opening the window", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description="Tell a hub how warm it is.")
    options.add_argument("identity", help="identity file")
    options.add_argument("--place", help="where the sensor is; the identity's site else")
    options.add_argument("--every", type=float, default=60.0, metavar="SECONDS")
    options.add_argument("--count", type=int, default=0, help="stop after so many readings; 0 goes on")
    given = options.parse_args()

    identity = ThalovantIdentity.from_file(given.identity)
    place = given.place or identity.site_id
    with contextlib.closing(ThalovantClient(identity, protocol="mqtt")) as client:
        number = 0
        while not given.count or number < given.count:
            number += 1
            try:
                answer = client.ask(f"It is {read_degrees()} degrees in the {place}.").text
            except ThalovantError as error:
                print(f"no answer: {error}", flush=True)
            else:
                print(answer, flush=True)
                act_on(answer)
            if number != given.count:
                time.sleep(given.every)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
