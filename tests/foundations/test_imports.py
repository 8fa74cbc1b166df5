"""Imports: the terminal side does not load the engine, nor the engine the terminal side; there are no cycles."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.paths import ROOT
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
def test_commands_that_only_print_text_load_no_engine(arguments):
    loaded, out = loaded_by(command(*arguments))
    assert not loaded & (ENGINE | {"textual"})
    assert out.strip()


def test_watching_loads_only_what_its_log_and_its_first_frame_need(tmp_path):
    """In one process: a snapshot of an event log, then one of a text log, then the modules of the live view."""
    watch, formats = "tdiff.watch", "tdiff.watch.formats"
    gpus = [f"{watch}.devices.{name}" for name in ("monitor", "readers", "reading", "readings", "script", "amd")]
    elsewhere = [f"{watch}.sources.{name}" for name in ("ssh", "folder_choice", "probe", "event_files", "folder_watch")]
    unused = [*gpus, *elsewhere, f"{watch}.jobs.slurm", f"{watch}.generation.session", "tdiff.protocol.messages"]
    unused += ["tdiff.config.settings", "tomllib", "tomli_w", "statistics", "fractions"]
    text = [f"{formats}.{name}" for name in ("text", "words", "names", "languages", "csv_table", "jsonl", "assemble")]
    for name, line in (
        ("events.jsonl", '{"kind":"end","time":5,"step":3,"reason":"finished"}'),
        ("train.log", "step 3 loss 2.5"),
    ):
        (tmp_path / name).write_text(f"{line}\n")

    def without(names: list[str], after: str) -> str:
        return f"assert not (found := set({names}) & set(sys.modules)), ({after!r}, found)\n"

    def snapshot(name: str) -> str:
        arguments = ["tdiff", "watch", "--once", str(tmp_path / name)]
        return f"sys.argv = {arguments}\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"

    _, out = loaded_by(
        "from tdiff.cli import main\n"
        + snapshot("events.jsonl")
        + without([*unused, *text, "textual"], "events.jsonl")
        + snapshot("train.log")
        + f"assert {text[0]!r} in sys.modules\n"
        + without([*unused, "textual"], "train.log")
        + f"assert not sys.modules['{formats}.languages']._foreign.cache_info().currsize\n"  # which takes 20 ms
        + "import tdiff.tui.session\n"
        + without([name for name in unused if name not in ("statistics", "fractions")], "the view")
        + without(["tdiff.terminal.clipboard", "tdiff.report.devices", "tdiff.tui.gpu_lines"], "the view")
    )
    assert "step 3" in out and "2.5" in out


def test_modules_that_both_sides_share_load_neither_engine_nor_view():
    names = ("", ".protocol.events", ".runs.run", ".protocol.canvas", ".config.settings", ".errors", ".visible")
    loaded, _ = loaded_by(
        "".join(f"import tdiff{name}\n" for name in names)
        + "assert 'rich' not in sys.modules\nimport tdiff.draw.render\n"  # which measures text widths with rich
    )
    assert not loaded & (ENGINE | {"textual", "typer"})
    assert "tdiff" in loaded


def test_the_engine_loads_no_terminal_library_no_transformers_and_to_train_uncompiled_no_compiler():
    code = (
        "import importlib, pkgutil, tdiff.core\n"
        "for module in pkgutil.walk_packages(tdiff.core.__path__, 'tdiff.core.'):\n"
        "    importlib.import_module(module.name)\n"
        "import torch\n"
        "from tdiff.core.training.optim import AdamW, Muon\n"
        "weight = torch.nn.Parameter(torch.eye(2))\n"
        "for optimizer in (AdamW([weight], fused=True), Muon([weight])):\n"
        "    weight.sum().backward()\n"
        "    optimizer.step()\n"
        "    optimizer.zero_grad()\n"
        "    optimizer.load_state_dict(optimizer.state_dict())\n"
        "assert 'torch._dynamo' not in sys.modules"
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


def imports(name: str, path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, module, name) of each import of tdiff in a module, those in functions included; the name may be empty.

    Imports under `if TYPE_CHECKING` are left out: they do not run.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    typing_only: set[ast.AST] = set()
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                typing_only |= {inner for statement in node.body for inner in ast.walk(statement)}
            case ast.Import() if node not in typing_only:
                for alias in node.names:
                    if alias.name.partition(".")[0] == "tdiff":
                        yield node.lineno, alias.name, ""
            case ast.ImportFrom() if node not in typing_only:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                module = ".".join([*parent, *filter(None, [node.module])])
                if module.partition(".")[0] == "tdiff":
                    for alias in node.names:
                        yield node.lineno, module, alias.name


def modules() -> dict[str, Path]:
    """The file of each module of tdiff."""
    found = {}
    for path in sorted((ROOT / "tdiff").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of two or more nodes of which each reaches every other, and nodes with an edge to themselves."""

    def reachable(start: str) -> set[str]:
        seen, pending = set[str](), [*graph[start]]
        while pending:
            if (node := pending.pop()) not in seen:
                seen.add(node)
                pending += graph[node]
        return seen

    reached = {node: reachable(node) for node in graph}
    groups = {tuple(sorted({a, *(b for b in reached[a] if a in reached[b])})) for a in graph if a in reached[a]}
    return [list(group) for group in sorted(groups)]


def test_cycles_are_detected():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"e", "a"}}
    assert cycles(graph) == [["a", "b", "c"], ["e"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_through_other_modules():
    every = modules()
    graph = {
        name: {
            f"{module}.{imported}" if f"{module}.{imported}" in every else module
            for _, module, imported in imports(name, path)
        }
        for name, path in every.items()
    }
    assert cycles(graph) == []


def test_no_module_imports_a_private_name_of_another():
    private = [
        f"{name}:{line}: {module}.{imported}"
        for name, path in modules().items()
        for line, module, imported in imports(name, path)
        if any(part.startswith("_") and not part.endswith("__") for part in (imported, *module.split(".")))
    ]
    assert private == []
