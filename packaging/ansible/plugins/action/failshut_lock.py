# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's half of arming: confirm over a connection that was opened after the lock was on."""

from __future__ import annotations

import contextlib
import time
import uuid

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()
# In seconds: how long after the host has undone an arming it is given to answer again, and between two tries.
GRACE, BETWEEN = 60, 1
_SILENCE = "-o ServerAliveInterval=%d -o ServerAliveCountMax=3"
# In seconds: after how long a silence ssh gives a connection up. One from before the lock may be silent for ever; a new one may be
# to a host that is busy with its own undoing, and takes its time to open a session.
_OLD, _NEW = _SILENCE % 3, _SILENCE % 10


class ActionModule(ActionBase):
    """Arms, opens a new connection, confirms; what can't be confirmed is undone by the host, and said here."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        """Run the module, and what must follow on it."""
        result = super().run(tmp, task_vars)
        del tmp
        self._vars = task_vars
        self._token = uuid.uuid4().hex
        try:
            return self._done(result)
        finally:
            self._be_patient()

    def _done(self, result):
        # A host that does not answer at all is found here, and not waited for.
        self._open_anew(_OLD)
        self._low_level_execute_command(":", sudoable=False)
        try:
            result.update(self._module())
            waits = result.pop("waits", 0)
        except AnsibleConnectionFailure as error:
            # The connection may be from before the lock, and cut off by it: only the answer is lost.
            waits = self._may_wait(error)
            result.update(changed=True, state="armed")
        if result.get("failed") or not waits:
            return result
        answer = self._confirmed(waits)
        return result if answer.get("confirmed") else self._undone(result, answer, waits)

    def _may_wait(self, lost):
        """Return how long an arming may wait whose answer never came; raise where none can."""
        seconds = int(self._task.args.get("confirm_within", 60))
        if self._play_context.check_mode or self._task.args.get("state", "armed") != "armed" or not seconds:
            raise lost
        return seconds

    def _confirmed(self, waits):
        """Open new connections until one carries the confirmation, or the host says that nothing waits any more."""
        end = time.monotonic() + waits + GRACE
        while True:
            try:
                self._open_anew(_NEW)
                answer = self._module(phase="confirm")
                if not answer.get("waits") or time.monotonic() > end:
                    return answer
            except AnsibleConnectionFailure as error:
                display.vv("failshut: no new connection yet: %s" % error, host=self._vars.get("inventory_hostname"))
                if time.monotonic() > end:
                    raise AnsibleConnectionFailure(
                        "armed, and not reached by a new connection since; the host undoes it by itself %d s after arming. "
                        "It does not answer now: %s" % (waits, error)
                    ) from error
            time.sleep(BETWEEN)

    def _undone(self, result, answer, waits):
        """Say that the host has undone it, and put the old policy back into its file."""
        restored = self._module(phase="restore").get("restored")
        result.update(
            failed=True,
            changed=False,
            reverted=True,
            state=answer.get("state", "unknown"),
            msg="No new connection confirmed this policy in time: the host has undone it by itself after %d s. The lock is as it "
            "was before%s. Allow the controller by [[allow.inbound]]; on a slow host raise confirm_within. The host says: %s"
            % (waits, ", and so is the policy's file" if restored else "", answer.get("why", "nothing waits to be confirmed")),
        )
        return result

    def _open_anew(self, silence):
        """Drop the connection that was there before the lock: only a new one proves anything.

        The next one gives up after some silence: the kernel may know a connection from before the lock by the wrong direction, and
        such a one answers nothing.
        """
        with contextlib.suppress(AttributeError, KeyError):
            self._connection.reset()
            self._connection.set_option("ssh_extra_args", ("%s %s" % (self._given(), silence)).strip())

    def _be_patient(self):
        """Let no later task share a connection that gives up within seconds: a host that is busy is not one that is gone."""
        with contextlib.suppress(AttributeError, KeyError):
            self._connection.set_option("ssh_extra_args", self._given())
            self._connection.reset()

    def _given(self):
        """Return the user's own words for ssh."""
        given = self._connection.get_option("ssh_extra_args") or ""
        return given.replace(_OLD, "").replace(_NEW, "").strip()

    def _module(self, **more):
        args = {**self._task.args, "token": self._token, **more}
        return self._execute_module(module_name="failshut.failshut.failshut_lock", module_args=args, task_vars=self._vars)
