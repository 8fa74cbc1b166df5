"""What loads what: the terminal side never pays for the engine, and the engine never knows a screen."""

import json
import subprocess
import sys

import pytest

from tests.support.runs import environment

ENGINE = {"torch", "transformers", "numpy", "safetensors", "tokenizers"}
SCREEN = {"textual", "typer", "rich"}


def loaded_by(code: str) -> tuple[set[str], str]:
    """The packages that are loaded after `code` has run in a fresh interpreter, and what it printed."""
    probe = (
        f"import sys, json, atexit\nsys.argv = ['tdiff']\n"
        "atexit.register(lambda: print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})), file=sys.stderr))\n"
        f"{code}"
    )
    done = subprocess.run([sys.executable, "-c", probe], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1])), done.stdout


def command(*arguments: str) -> str:
    return f"sys.argv += {list(arguments)}\nfrom tdiff.cli import main\nmain()"


def test_help_names_every_command_and_loads_neither_engine_nor_view():
    loaded, out = loaded_by(command("--help"))
    assert not loaded & (ENGINE | {"textual", "rich"})
    for name in ("train", "generate", "eval", "guide"):
        assert f"\n  {name} " in out
    assert "Traceback" not in out


@pytest.mark.parametrize("arguments", [["train", "--help"], ["guide"], ["--version"]], ids=" ".join)
def test_what_only_prints_text_loads_no_engine(arguments):
    loaded, out = loaded_by(command(*arguments))
    assert not loaded & (ENGINE | {"textual"})
    assert out.strip()


def test_what_crosses_the_seam_loads_neither_engine_nor_view():
    names = ("", ".protocol.events", ".runs.run", ".protocol.canvas", ".config.settings", ".errors", ".visible")
    loaded, _ = loaded_by(
        "".join(f"import tdiff{name}\n" for name in names)
        + "assert 'rich' not in sys.modules\nimport tdiff.draw.render\n"  # which measures how wide a text is with rich
    )
    assert not loaded & (ENGINE | {"textual", "typer"})
    assert "tdiff" in loaded


def test_the_engine_loads_no_screen_and_no_transformers():
    code = (
        "import importlib, pkgutil, tdiff.core\n"
        "for module in pkgutil.walk_packages(tdiff.core.__path__, 'tdiff.core.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    loaded, _ = loaded_by(code)
    assert not loaded & (SCREEN | {"transformers"})
    assert "torch" in loaded


def test_public_names_are_resolved_on_first_use_and_all_exist():
    code = (
        "import tdiff\n"
        "assert 'torch' not in sys.modules\n"
        "tdiff.TdiffError, tdiff.Settings\n"
        "assert 'torch' not in sys.modules\n"
        "print([type(getattr(tdiff, name)).__name__ for name in tdiff.__all__])\n"
        "assert 'torch' in sys.modules"
    )
    loaded_by(code)
