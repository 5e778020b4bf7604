"""Runs what the test asks for, inside the machine: a line of JSON each way on a port that is no network."""

from __future__ import annotations

import glob
import json
import os
import subprocess
import time

PORT = "agent"


def _device() -> str | None:
    for path in glob.glob("/sys/class/virtio-ports/*/name"):  # noqa: PTH207 - as little to load as can be: it starts with the boot
        with open(path) as file:  # noqa: PTH123 - as above
            if file.read().strip() == PORT:
                return "/dev/" + path.split("/")[-2]
    return None


def _do(order: dict) -> dict:
    environment = {"HOME": "/root", "LC_ALL": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        done = subprocess.run(
            order["argv"],
            input=(order["stdin"] or "").encode(),
            capture_output=True,
            timeout=order["timeout"],
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"id": order["id"], "code": 127, "out": "", "err": str(error)}
    return {
        "id": order["id"],
        "code": done.returncode,
        "out": done.stdout.decode(errors="replace"),
        "err": done.stderr.decode(errors="replace"),
    }


def main() -> None:
    """Serve for ever."""
    while (device := _device()) is None:
        time.sleep(0.05)
    port = os.open(device, os.O_RDWR)
    waiting = b""
    while True:
        part = os.read(port, 65536)
        if not part:
            # Nobody is at the other end.
            time.sleep(0.05)
        waiting += part
        while b"\n" in waiting:
            line, _, waiting = waiting.partition(b"\n")
            try:
                order = json.loads(line)
            except ValueError:
                # The rest of what was said to the boot before.
                continue
            answer = json.dumps(_do(order)).encode() + b"\n"
            while answer:
                answer = answer[os.write(port, answer) :]


if __name__ == "__main__":
    main()
