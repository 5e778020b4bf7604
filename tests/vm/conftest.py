"""What the tests on whole machines share: whether one can run here at all, the images, and a machine beside its router."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from boot.conftest import skip_where_nothing_boots
from boot.room import Room
from boot.roots import UnreachableError
from boot.router import Router
from failshut.host.run import find
from vm import accelerator, images
from vm.chronicle import Chronicle
from vm.machine import Machine
from vm.measured import Measured, write

# `make vm-test` says "all"; without a word from anyone only the smallest test runs, and only where its image is built already
# and a processor runs it: an emulated one takes a quarter of an hour beside the other tests, and theirs as well.
WANTED = os.environ.get("FAILSHUT_VM", "")
PROGRAMS = ("qemu-system-x86_64", "mkfs.ext4", "debugfs")

SMOKE = "test_smoke.py"

if WANTED != "all":
    collect_ignore = [each.name for each in Path(__file__).parent.glob("test_*.py") if each.name != SMOKE]


@pytest.fixture(scope="session")
def say(request):
    """Tell whoever waits."""

    def tell(what: str) -> None:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            sys.stderr.write(f"failshut: {what}\n")

    return tell


@pytest.fixture(scope="session")
def image_of(say):
    """The image of a Debian release: from the cache, or built where that is asked for."""
    skip_where_nothing_boots()
    for program in PROGRAMS:
        if find(program) is None:
            pytest.skip(f"needs {program}: `make vm-test` installs it")

    def obtained(image: images.Image) -> images.Image:
        if not WANTED and not image.path.exists():
            pytest.skip(f"no {image.name} image in the cache: `make vm-test` or FAILSHUT_VM=1 builds it")
        try:
            return images.obtain(image, say)
        except UnreachableError as error:
            pytest.skip(f"needs a Debian mirror to build the {image.name} image: {error}")

    return obtained


@pytest.fixture(params=[images.BOOKWORM, images.TRIXIE], ids=lambda each: each.name)
def image(request, image_of):
    """Each Debian release in turn."""
    return image_of(request.param)


@pytest.fixture(scope="session")
def choose_accelerator(say):
    """What a kernel starts by, found out once."""
    chosen: list[str] = []

    def choose(image: images.Image) -> str:
        if not chosen:
            chosen.append(accelerator.choose(image, say))
        if not WANTED and chosen[0] == accelerator.EMULATED:
            pytest.skip("nothing virtualises here, and emulated it takes its time: FAILSHUT_VM=1 runs it all the same")
        return chosen[0]

    return choose


@pytest.fixture
def machine_with(image, choose_accelerator):
    """Make a machine that is off, beside its router; words for its kernel are said to it at every boot."""
    with ExitStack() as stack:

        def made(kernel_words: str = "") -> Machine:
            room = stack.enter_context(Room())
            router = stack.enter_context(Router(room))
            return stack.enter_context(Machine(room, router, image, choose_accelerator(image), kernel_words))

        yield made


@pytest.fixture
def machine(machine_with):
    """Make a machine that is off, beside its router."""
    return machine_with()


@pytest.fixture
def chronicle(request, image, subtests):
    """What is seen of one machine; `--machines` has it written into the page."""
    measured = Measured(image.name)
    yield Chronicle(measured, subtests)
    # A machine that never came up has no kernel that it could be written down under, and would take the other's rows away.
    if measured.kernel and (page := request.config.getoption("--machines")):
        write(Path(page), measured)
