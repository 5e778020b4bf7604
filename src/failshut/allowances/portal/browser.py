"""The throw-away browser: which one there is, and how it begins with a profile that nothing else uses."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Arguments = Callable[[str, str], list[str]]

# Names by the portal's resolver, and nothing that a browser does on its own account: each would only be refused.
_USER_JS = """\
user_pref("network.trr.mode", 5);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("browser.startup.homepage", "about:blank");
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.safebrowsing.downloads.remote.enabled", false);
user_pref("app.update.enabled", false);
user_pref("app.normandy.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("dom.security.https_only_mode", false);
user_pref("dom.security.https_first", false);
"""
_CHROMIUM_FLAGS = (
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=DnsOverHttps,HttpsUpgrades,MediaRouter",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of browser: the programs it goes by, its words for a profile's directory and a page, and the profile's own files."""

    programs: tuple[str, ...]
    arguments: Arguments
    files: tuple[tuple[str, str], ...] = ()
    needs_display: bool = True


KINDS = (
    Kind(
        ("firefox", "firefox-esr", "librewolf"),
        lambda profile, page: ["--new-instance", "--no-remote", "--profile", profile, page],
        (("user.js", _USER_JS),),
    ),
    Kind(
        ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "brave-browser", "microsoft-edge"),
        lambda profile, page: [f"--user-data-dir={profile}", *_CHROMIUM_FLAGS, page],
    ),
    Kind(("epiphany", "epiphany-browser"), lambda profile, page: ["--incognito-mode", f"--profile={profile}", page]),
    Kind(("falkon",), lambda profile, page: ["--portable", f"--profile={profile}", "--private-browsing", page]),
    Kind(("w3m",), lambda _, page: [page], needs_display=False),
    Kind(("lynx", "elinks", "links"), lambda _, page: [page], needs_display=False),
)


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser that is there: its command, and what its profile begins with."""

    command: tuple[str, ...]
    kind: Kind | None = None

    @property
    def is_windowed(self) -> bool:
        """Whether it has a window, and no use for the terminal."""
        return self.kind is not None and self.kind.needs_display

    def words(self, profile: Path, page: str) -> list[str]:
        """Return the words that open `page` with a profile in `profile`. A command of the user's own is told the page alone."""
        return [*self.command, *(self.kind.arguments(str(profile), page) if self.kind else [page])]


def find(environment: Mapping[str, str]) -> Browser | None:
    """Return the first browser that is installed and can be shown here; None without one."""
    has_display = bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
    for kind in KINDS:
        for program in kind.programs if has_display or not kind.needs_display else ():
            found = shutil.which(program, path=environment.get("PATH"))
            if found and not _is_packed(Path(found)):
                return Browser((found,), kind)
    return None


def _is_packed(program: Path) -> bool:
    """Whether it only starts a snap, which moves itself into a control group of the user's session: inside."""
    try:
        with program.open("rb") as file:
            return b"/snap/" in str(program.resolve()).encode() + b" " + file.read(4096)
    except OSError:
        return True


def given(command: str) -> Browser | None:
    """Return the browser that the user names: one of those known gets its own profile's words. None for what is no command."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words:
        return None
    known = next((kind for kind in KINDS if len(words) == 1 and Path(words[0]).name in kind.programs), None)
    return Browser(tuple(words), known)


def private(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the surroundings of a browser that keeps nothing: its home is `home`, and it asks no program inside for anything."""
    kept = {name: value for name, value in environment.items() if not name.startswith("XDG_") or name == "XDG_RUNTIME_DIR"}
    # A running browser, or a service, would be asked over the session's bus to open the page: inside.
    kept.pop("DBUS_SESSION_BUS_ADDRESS", None)
    cookie = Path(environment.get("HOME", "/"), ".Xauthority")
    shown = {"XAUTHORITY": str(cookie)} if "XAUTHORITY" not in kept and cookie.is_file() else {}
    return {**kept, **shown, "HOME": str(home)}
