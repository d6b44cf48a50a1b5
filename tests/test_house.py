"""Rules of the house that no other tool looks after; each checker is shown to fail."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import facemllm

ROOT = Path(__file__).parents[1]
SOURCE = Path(facemllm.__file__).parent
MOST_LINES = 400
HEAVY = (
    "transformers",
    "timm",
    "torch",
    "torchvision",
    "peft",
    "accelerate",
    "onnxruntime",
    "cv2",
    "sklearn",
    "scipy",
)
FLOORS = (
    "ops",
    "layers",
    "faces",
    "encoders",
    "connectors",
    "language",
    "heads",
    "data",
    "model",
    "training",
    "evaluation",
    "annotation",
)
MODULES = sorted(module.name for module in pkgutil.walk_packages(facemllm.__path__, "facemllm."))

# Written in two parts, so that this file does not hold what it looks for.
MACHINE_PATHS = ("/wo" + "rk/", "/tmp/" + "venv", "../sha" + "red", "/ro" + "ot/", "/ho" + "me/")
NOT_OURS = {"site", "build", "dist", "runs", "outputs", "__pycache__"}
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".cff", ".json", ".jsonl", ".txt", ".cfg", ""}

in_checkout = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="docs are not beside the tests")


# --- size


def too_long(files: list[Path], most: int = MOST_LINES) -> list[str]:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    return [f"{path}: {length} lines" for path, length in lengths.items() if length > most]


def test_no_file_is_too_long():
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 50
    assert not too_long(files)


def test_a_long_file_is_noticed(tmp_path):
    path = tmp_path / "long.py"
    path.write_text("pass\n" * (MOST_LINES + 1))
    assert too_long([path]) == [f"{path}: {MOST_LINES + 1} lines"]


# --- imports


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after a statement."""
    script = f"{statement}\nimport sys\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_quick():
    assert not loaded_by("import facemllm; dir(facemllm)").intersection(HEAVY)


def test_a_heavy_import_is_noticed():
    assert "torch" in loaded_by("import facemllm.ops").intersection(HEAVY)


def test_parts_do_not_import_what_they_may_not_need():
    loaded = loaded_by("import facemllm.cli.main, facemllm.encoders, facemllm.faces, facemllm.data")
    assert not loaded & {"timm", "onnxruntime", "cv2", "sklearn", "scipy", "matplotlib", "peft"}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name):
    if not name.endswith("__main__"):
        importlib.import_module(name)


# --- public names


def public_names(package: str) -> list[str]:
    return [
        f"{package}.{name}" for name in importlib.import_module(package).__all__ if not name.startswith("__")
    ]


PUBLIC = [
    *public_names("facemllm"),
    *(name for floor in FLOORS for name in public_names(f"facemllm.{floor}")),
]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_resolve_and_are_documented(name):
    module, _, attribute = name.rpartition(".")
    part = getattr(importlib.import_module(module), attribute)
    if callable(part):
        assert (part.__doc__ or "").strip(), f"{name} has no docstring"
        assert not part.__doc__.startswith(f"{attribute}("), f"{name} has a docstring made by dataclass only"


def test_all_and_dir_agree():
    assert dir(facemllm) == sorted(facemllm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = facemllm.nothing


def entries(text: str) -> set[str]:
    """Return what mkdocstrings is told to show on a page."""
    return set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))


def undocumented(names: list[str], shown: set[str]) -> list[str]:
    last = {entry.rpartition(".")[2] for entry in shown}
    # A name may be shown under the module that defines it, or under a package that offers it.
    return [name for name in names if name not in shown and name.rpartition(".")[2] not in last]


@in_checkout
def test_public_names_are_in_the_reference():
    shown = set().union(*(entries(page.read_text()) for page in (ROOT / "docs" / "api").glob("*.md")))
    assert not undocumented(PUBLIC, shown)
    assert undocumented(["facemllm.Nothing"], shown) == ["facemllm.Nothing"]
    for entry in shown:  # and what is shown is there
        module, _, attribute = entry.rpartition(".")
        assert entry in MODULES or hasattr(importlib.import_module(module), attribute), entry


@in_checkout
def test_every_command_is_in_the_reference():
    from facemllm.cli.main import app

    page = (ROOT / "docs" / "api" / "cli.md").read_text()
    commands = {command.name for command in app.registered_commands}
    assert commands == set(re.findall(r"^\| `facemllm (\w+)", page, re.MULTILINE))


# --- docs that can be run


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for body in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            found.append((page.name, body))
    return found


@in_checkout
def test_python_in_the_docs_compiles_and_its_imports_exist():
    found = blocks("python")
    assert len(found) > 5
    for page, body in found:
        compile(body, page, "exec")
        for line in re.findall(r"^(?:from facemllm\S* import .+|import facemllm\S*)", body, re.MULTILINE):
            exec(line.partition("#")[0], {})


@in_checkout
def test_recipes_in_the_docs_are_valid(tmp_path):
    from facemllm import ThreeStageRecipe

    for page, body in blocks("yaml"):
        path = tmp_path / "recipe.yaml"
        path.write_text(body)
        assert len(ThreeStageRecipe.load(path).stages) == 3, page


@in_checkout
def test_commands_in_the_docs_have_their_options():
    from typer.main import get_command

    from facemllm.cli.main import app

    known = {
        name: {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        for name, command in get_command(app).commands.items()
    }
    lines = [line for _, body in blocks("sh") for line in body.splitlines() if line.startswith("facemllm ")]
    assert len(lines) > 5
    for line in lines:
        _, command, *words = line.split("#")[0].split()
        used = {word.partition("=")[0] for word in words if re.match(r"--?\w", word)}
        assert used <= known[command] | {"--help"}, line


# --- nothing of a machine


def machine_paths(folder: Path) -> list[str]:
    """Return the lines of text files that name a place on one machine."""
    hits = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        ours = not any(part in NOT_OURS or part.startswith(".") for part in inside.parts[:-1])
        if ours and path.is_file() and path.suffix in TEXT and path.stat().st_size < 5_000_000:
            lines = path.read_text(encoding="utf-8", errors="ignore").splitlines()
            for number, line in enumerate(lines, start=1):
                if any(place in line for place in MACHINE_PATHS):
                    hits.append(f"{inside}:{number}: {line}")
    return hits


@in_checkout
def test_the_tree_names_no_machine():
    assert not machine_paths(ROOT)


def test_a_machine_path_is_noticed(tmp_path):
    (tmp_path / "notes.md").write_text("fine\nsee " + MACHINE_PATHS[0] + "data\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "log.txt").write_text(MACHINE_PATHS[0])
    assert [hit.split(":")[:2] for hit in machine_paths(tmp_path)] == [["notes.md", "2"]]
