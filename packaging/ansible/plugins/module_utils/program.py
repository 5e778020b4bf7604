# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The failshut program of a host, asked in JSON."""

from __future__ import annotations

import json
import os

# What `failshut status` exits with: armed, disarmed, unknown, drift.
STATES = (0, 3, 4, 11)
# What `failshut plan --exit-code` would, when it can say.
PLANNED = (0, 10)
# Where else than on PATH an administrator's programs are.
PLACES = ["/usr/local/bin", "/usr/local/sbin"]


class ProgramError(Exception):
    """What failshut answered when it could not do what was asked: a sentence, and its findings if it has any."""

    def __init__(self, message, findings=()):
        super().__init__(message)
        self.findings = list(findings)


class Program:
    """Runs failshut; `path` is None where it is not installed."""

    def __init__(self, module):
        self._module = module
        executable = module.params["executable"]
        if os.path.isabs(executable):
            self.path = executable if os.access(executable, os.X_OK) else None
        else:
            self.path = module.get_bin_path(executable, opt_dirs=PLACES)

    def ask(self, *words, codes=(0,)):
        """Return what `failshut WORDS --json` answers. Raises ProgramError when it exits with none of `codes`."""
        if self.path is None:
            raise ProgramError("failshut is not installed: %s is not there" % self._module.params["executable"])
        code, out, err = self._module.run_command([self.path, *words, "--json"])
        answer = _parsed(out)
        if code not in codes or answer is None:
            findings = answer.get("findings", []) if isinstance(answer, dict) else []
            raise ProgramError(_sentence(words[0], code, findings, err), findings)
        return answer

    def version(self):
        """Return its version."""
        out = self._module.run_command([self.path, "--version"], check_rc=True)[1]
        return out.strip().split()[-1]

    def status(self):
        """Return what `failshut status` says."""
        return self.ask("status", codes=STATES)


def _parsed(out):
    try:
        return json.loads(out)
    except ValueError:
        return None


def _sentence(verb, code, findings, err):
    errors = [each for each in findings if each.get("severity") == "error"]
    if errors:
        return "\n".join("{file}:{line}:{column}: error[{code}]: {message}".format(**each) for each in errors)
    said = "\n".join(line for line in err.splitlines() if (line.strip() and not line.startswith("  ")) or "help:" in line)
    return said.strip() or "failshut %s exited with %d" % (verb, code)
