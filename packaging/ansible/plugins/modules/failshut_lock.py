#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Arms or disarms a host's lock; what the controller does of it is in the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failshut_lock
short_description: Arm or disarm a host's VPN kill switch, so that a wrong policy undoes itself
description:
  - Writes the policy and arms the lock with C(failshut arm --confirm-within); then opens a B(new) connection to the host and
    confirms over that. Where none can be opened, nobody confirms, and the host undoes the arming by itself.
  - A policy with a mistake is found before anything is changed. Whatever fails, lock and policy are as they were.
  - Does nothing where C(failshut plan) finds nothing to change.
version_added: "0.1.0"
author:
  - The failshut maintainers (@failshut)
options:
  state:
    description: Whether the lock shall be on. With V(disarmed) the policy's file is left alone.
    type: str
    choices: [armed, disarmed]
    default: armed
  policy:
    description: Where the policy is on the host.
    type: path
    default: /etc/failshut/failshut.toml
  content:
    description: The policy itself, in TOML. Without it, the file that is there is armed.
    type: str
  signature:
    description:
      - The policy's signature, as C(failshut sign) writes it; it is put beside the policy, as C(failshut.toml.sig).
      - Ignored without O(content).
    type: str
  confirm_within:
    description:
      - In so many seconds the host undoes the arming, unless a new connection confirms it.
      - V(0) arms without a way back, as on a host without systemd.
    type: int
    default: 60
  executable:
    description: The failshut program, by its path or its name.
    type: str
    default: failshut
  phase:
    description: For the action plugin, which confirms over the new connection, and puts the old policy back where it can't.
    type: str
    choices: [arm, confirm, restore]
    default: arm
  token:
    description: For the action plugin, by which it knows that what waits is what it has armed.
    type: str
    default: ""
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  action:
    description: Part of it runs on the controller, which opens the new connection.
    support: full
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: linux
requirements:
  - failshut on the host
notes:
  - Its connection must be one that can be opened anew, as SSH's; C(ansible_connection=local) confirms nothing.
seealso:
  - module: failshut.failshut.failshut_info
"""

EXAMPLES = r"""
- name: Arm what is in the file on the host
  failshut.failshut.failshut_lock:
  become: true

- name: Arm a policy
  failshut.failshut.failshut_lock:
    content: "{{ lookup('ansible.builtin.template', 'failshut.toml.j2') }}"
    confirm_within: 90
  become: true

- name: Take the lock off
  failshut.failshut.failshut_lock:
    state: disarmed
  become: true
"""

RETURN = r"""
state:
  description: The lock in one word, as it is afterwards; before that in check mode.
  type: str
  returned: success
  sample: armed
plan:
  description:
    - What C(failshut plan) said before; V(files) are paths. What the rules change is shown with C(--diff), without the host's own
      marks, which are secrets.
  type: dict
  returned: when armed
  contains:
    changes:
      description: Whether arming would change anything.
      type: bool
    files:
      description: The files that it would write.
      type: list
      elements: str
    notes:
      description: What one should know.
      type: list
      elements: str
findings:
  description: What is wrong with the policy, each with file, line, message and help.
  type: list
  elements: dict
  returned: when the policy has a mistake
reverted:
  description: Whether the host has undone the arming, because no new connection could be opened in time.
  type: bool
  returned: when it was not confirmed
"""

import contextlib
import fcntl
import json
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.failshut.failshut.plugins.module_utils.program import PLANNED, Program, ProgramError

# What stood there before an arming that waits; gone with a reboot, as that arming is.
BEFORE = "/run/failshut-ansible.json"
# Locked by failshut while it arms or disarms.
WORKING = "/run/failshut.lock"
ARMED_DIRECTORY = "/etc/failshut/armed"
_UNCHANGED = "nothing was changed, and the lock is as it was"


class Policy:
    """The policy's two files on the host, and what they shall be; None is a file that is not there."""

    def __init__(self, module):
        self._module = module
        self.path = module.params["policy"]
        self.before = self._read()
        content, signature = module.params["content"], module.params["signature"]
        self.after = self.before if content is None else {self.path: content, self.path + ".sig": signature}

    @property
    def is_change(self):
        """Whether a file would change."""
        return self.before != self.after

    @contextlib.contextmanager
    def candidate(self):
        """Lend a path where the policy is as it shall be."""
        if not self.is_change:
            yield self.path
            return
        beside = os.path.dirname(self.path)
        with tempfile.TemporaryDirectory(dir=self._module.tmpdir) as directory:
            # A tunnel's config that is named by a relative path.
            for name in os.listdir(beside) if os.path.isdir(beside) else ():
                if os.path.join(beside, name) not in self.after:
                    os.symlink(os.path.join(beside, name), os.path.join(directory, name))
            for path, text in self.after.items():
                if text is not None:
                    _fill(os.path.join(directory, os.path.basename(path)), text)
            yield os.path.join(directory, os.path.basename(self.path))

    def write(self, texts):
        """Put these texts in place, each whole. Fails, with nothing changed, where that can't be done."""
        directory = os.path.dirname(self.path)
        try:
            os.makedirs(directory, mode=0o755, exist_ok=True)
            # Asks as writing would, also of root and of a file system that is read-only.
            tempfile.TemporaryFile(dir=directory).close()
        except OSError as error:
            self._module.fail_json(msg="%s can't be written: %s; %s" % (directory, error.strerror, _UNCHANGED))
        # The signature first: until the policy is there too, neither is the other's.
        for path in sorted(texts, reverse=True):
            if texts[path] is not None:
                descriptor, beside = tempfile.mkstemp(dir=self._module.tmpdir)
                os.close(descriptor)
                _fill(beside, texts[path])
                self._module.atomic_move(beside, path)
            elif os.path.exists(path):
                os.unlink(path)

    def remember(self):
        """Keep on the host what stands there now, for when nobody confirms."""
        _fill(BEFORE, json.dumps({"token": self._module.params["token"], "texts": self.before}))

    def restore(self):
        """Put back what this run has kept; return whether it had."""
        before = self.kept()
        if before is None:
            return False
        self.write(before)
        self.forget()
        return True

    def kept(self):
        """Return what this run has kept; None when it has kept nothing, or no longer."""
        try:
            with open(BEFORE, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return None
        return found["texts"] if found["token"] == self._module.params["token"] else None

    def forget(self):
        """Keep it no longer."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(BEFORE)

    def diff(self):
        """Return the change of each file, for Ansible to show."""
        pairs = [(path, self.before[path] or "", self.after[path] or "") for path in self.after]
        return [
            {"before": before, "after": after, "before_header": path, "after_header": path}
            for path, before, after in pairs
            if before != after
        ]

    def _read(self):
        texts = {}
        for path in (self.path, self.path + ".sig"):
            try:
                with open(path, encoding="utf-8", newline="") as file:
                    texts[path] = file.read()
            except FileNotFoundError:
                texts[path] = None
            except (OSError, UnicodeDecodeError) as error:
                self._module.fail_json(msg="%s can't be read: %s; %s" % (path, error, _UNCHANGED))
        return texts


def arm(module, program):
    """Write the policy and arm it, unless both are so already."""
    policy = Policy(module)
    if program.path is None and module.check_mode:
        module.warn("failshut is not installed: what arming would change can't be shown before it is")
        module.exit_json(changed=True, state="absent", diff=policy.diff())
    with policy.candidate() as path:
        try:
            plan = program.ask("plan", "--policy", path, codes=PLANNED)
        except ProgramError as error:
            _refuse(module, error, path, policy.path)
    summary = _summary(plan, policy, os.path.dirname(path))
    status = program.status()
    if status["reverts_in"] is not None:
        why = "an arming waits to be confirmed, %d s from now it is undone: wait, or `failshut confirm` it" % status["reverts_in"]
        module.fail_json(msg="%s; %s" % (why, _UNCHANGED))
    changed = policy.is_change or plan["changes"] or not _is_sound(status)
    result = {"changed": changed, "state": status["state"], "plan": summary, "diff": policy.diff() + _diff(plan, summary["files"])}
    if module.check_mode or not changed:
        module.exit_json(waits=0, **result)
    policy.remember()
    policy.write(policy.after)
    try:
        answer = program.ask("arm", "--policy", policy.path, "--confirm-within", str(module.params["confirm_within"]))
    except ProgramError as error:
        policy.restore()
        _refuse(module, error, policy.path, policy.path)
    waits = answer["confirm_within"] or 0
    if not waits:
        policy.forget()
    result["state"] = "armed"
    module.exit_json(waits=waits, **result)


def confirm(module, program):
    """Keep what this run has armed; say so where nothing of it waits, and how long where it can't be confirmed yet."""
    policy = Policy(module)
    if policy.kept() is None:
        module.exit_json(changed=False, confirmed=False, why="it could not be armed", waits=0, state=program.status()["state"])
    try:
        program.ask("confirm")
    except ProgramError as error:
        status = program.status()
        waits = status["reverts_in"] or int(_is_at_work())
        module.exit_json(changed=False, confirmed=False, why=str(error), waits=waits, state=status["state"])
    policy.forget()
    module.exit_json(changed=True, confirmed=True, state="armed", waits=0)


def restore(module, program):
    """Put the policy back that stood there before an arming that was undone."""
    status = program.status()
    restored = status["reverts_in"] is None and Policy(module).restore()
    module.exit_json(changed=restored, restored=restored, state=status["state"])


def disarm(module, program):
    """Take the lock off, where there is one."""
    if program.path is None and not os.path.exists(ARMED_DIRECTORY):
        module.exit_json(changed=False, state="absent", waits=0)
    try:
        state = program.status()["state"]
        if state == "unknown":
            module.fail_json(msg="whether the lock is armed can't be known: run it as root")
        changed = state != "disarmed"
        if changed and not module.check_mode:
            program.ask("disarm", "--yes")
    except ProgramError as error:
        module.fail_json(msg=str(error))
    after = "disarmed" if changed and not module.check_mode else state
    diff = {"before": "%s\n" % state, "after": "disarmed\n", "before_header": "lock", "after_header": "lock"}
    module.exit_json(changed=changed, state=after, waits=0, diff=[diff] if changed else [])


def _fill(path, text):
    with open(path, "w", encoding="utf-8", newline="", opener=_private) as file:
        file.write(text)


def _private(path, flags):
    return os.open(path, flags, 0o600)


def _is_at_work():
    """Whether a failshut is arming right now."""
    with open(WORKING, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_sound(status):
    boot = status["boot"] or {}
    return status["state"] == "armed" and not boot.get("damaged") and not boot.get("missing")


def _refuse(module, error, path, shown):
    """Fail with what failshut said, by the path that the policy has on the host."""
    findings = [dict(each, file=shown if each["file"] == path else each["file"]) for each in error.findings]
    module.fail_json(msg="%s\n%s" % (str(error).replace(path, shown), _UNCHANGED), findings=findings)


def _summary(plan, policy, directory):
    paths = [each["path"].replace(directory + "/", os.path.dirname(policy.path) + "/") for each in plan["files"]]
    return {"changes": plan["changes"], "files": paths, "notes": plan["notes"]}


def _diff(plan, files):
    """Return what `failshut plan` shows, with files by their path alone: one may hold a private key."""
    lines = [
        *plan["kernel"],
        *plan["routing"],
        *("write %s" % each for each in files),
        *("set %(path)s to %(after)s (it is %(before)s now)" % each for each in plan["sysctls"]),
        *("wg set %(interface)s fwmark %(after)s" % each for each in plan["marks"]),
    ]
    return [{"prepared": "\n".join(lines) + "\n"}] if lines else []


def main():
    """Do what was asked."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["armed", "disarmed"], "default": "armed"},
            "policy": {"type": "path", "default": "/etc/failshut/failshut.toml"},
            "content": {"type": "str"},
            "signature": {"type": "str"},
            "confirm_within": {"type": "int", "default": 60},
            "executable": {"type": "str", "default": "failshut"},
            "token": {"type": "str", "default": "", "no_log": False},
            "phase": {"type": "str", "choices": ["arm", "confirm", "restore"], "default": "arm"},
        },
        supports_check_mode=True,
    )
    doing = {"arm": arm, "confirm": confirm, "restore": restore}[module.params["phase"]]
    if module.params["state"] == "disarmed":
        doing = disarm
    doing(module, Program(module))


if __name__ == "__main__":
    main()
