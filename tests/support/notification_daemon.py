"""A small notification daemon on a session bus: prints each notice as a line of JSON. A program of its own."""

from __future__ import annotations

import json
import sys

from jeepney import DBusAddress, MessageType, new_method_call, new_method_return
from jeepney.io.blocking import open_dbus_connection

NAME = "org.freedesktop.Notifications"
BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_DO_NOT_QUEUE = 4


def main(bus: str) -> None:
    """Serve for ever."""
    with open_dbus_connection(f"unix:path={bus}") as connection:
        connection.send_and_get_reply(new_method_call(BUS, "RequestName", "su", (NAME, _DO_NOT_QUEUE)))
        print("ready", flush=True)  # noqa: T201 - the test reads it
        last = 0
        while True:
            message = connection.receive()
            if message.header.message_type is not MessageType.method_call:
                continue
            _, before, _, title, body, _, hints, _ = message.body
            last = before or last + 1
            connection.send(new_method_return(message, "u", (last,)))
            notice = {"number": last, "title": title, "body": body, "urgency": hints["urgency"][1]}
            print(json.dumps(notice), flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(sys.argv[1])
