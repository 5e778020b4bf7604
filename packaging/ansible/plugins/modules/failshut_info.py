#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Says how a host's lock is; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failshut_info
short_description: Say how a host's VPN kill switch is
description:
  - Runs C(failshut status) on the host and returns what it says. Changes nothing.
  - The kernel's rules are root's to read, so that it wants O(ignore:become=true); without it the state is V(unknown).
version_added: "0.1.0"
author:
  - The failshut maintainers (@failshut)
options:
  executable:
    description: The failshut program, by its path or its name.
    type: str
    default: failshut
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: linux
seealso:
  - module: failshut.failshut.failshut_lock
"""

EXAMPLES = r"""
- name: Look
  failshut.failshut.failshut_info:
  become: true
  register: lock

- name: Refuse to go on where the lock is not as it was armed
  ansible.builtin.assert:
    that: lock.state == 'armed'
    fail_msg: "{{ lock.status.reason }}"
"""

RETURN = r"""
installed:
  description: Whether failshut is there at all.
  type: bool
  returned: always
version:
  description: Its version.
  type: str
  returned: when installed
  sample: 0.1.0
state:
  description: The lock in one word, V(armed), V(disarmed), V(drift), V(unknown); V(absent) where failshut is not installed.
  type: str
  returned: always
  sample: armed
status:
  description: All that C(failshut status --json) says.
  type: dict
  returned: when installed
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.failshut.failshut.plugins.module_utils.program import Program, ProgramError


def main():
    """Answer."""
    module = AnsibleModule(argument_spec={"executable": {"type": "str", "default": "failshut"}}, supports_check_mode=True)
    program = Program(module)
    if program.path is None:
        module.exit_json(changed=False, installed=False, state="absent")
    try:
        status = program.status()
    except ProgramError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, installed=True, version=program.version(), state=status["state"], status=status)


if __name__ == "__main__":
    main()
