"""How OpenMP's threads wait is set before torch is imported, in every process that computes, unless the user says."""

import os
import subprocess
import sys

import pytest

from tdiff.openmp import MILLISECONDS, SPINS, set_defaults


def seen(program: str, **environ: str) -> list[str]:
    """What a process that imports the engine has in its environment; it fails where torch came first."""
    kept = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    show = "import os; print(*(os.environ.get(n, '') for n in ('GOMP_SPINCOUNT', 'KMP_BLOCKTIME')), sep=',')"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{show}"], env=kept | environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().split(",")


@pytest.mark.parametrize(
    "program",
    [
        "import tdiff; tdiff.load_model",
        "import tdiff.core.serve",
        "import tdiff.core.training.loop",
        "import tdiff.core",
    ],
)
def test_spin_limits_are_set_in_every_process_that_computes(program):
    assert seen(program) == [SPINS, MILLISECONDS]


def test_a_setting_of_the_user_wins():
    assert seen("import tdiff.core", OMP_WAIT_POLICY="ACTIVE") == ["", ""]
    assert seen("import tdiff.core", GOMP_SPINCOUNT="7") == ["7", ""]


def test_spin_limits_are_not_set_after_torch_is_imported():
    environ: dict[str, str] = {}
    assert "torch" in sys.modules
    set_defaults(environ)
    assert environ == {}


def test_wherever_torch_comes_in_the_engine_came_before():
    """Modules of the command line import the engine's, and only through them torch."""
    commands = ("generate", "train", "generate_file", "classify", "compare")
    names = ", ".join(["tdiff.cli", *(f"tdiff.commands.{name}" for name in commands)])
    program = f"import sys, {names}\nassert 'torch' not in sys.modules or 'tdiff.core' in sys.modules"
    assert seen(f"{program}\nimport tdiff.core") == [SPINS, MILLISECONDS]
