"""The house rules that a machine can hold."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gammatorch

PACKAGE = Path(gammatorch.__file__).parent
FLOORS = [
    "version",
    "errors",
    "result",
    "checkpoints",
    "architectures",
    "gains",
    "analysis",
    "trajectory",
    "results",
    "verify",
    "reports",
    "sweep",
    "pages",
    "integrations",
    "bench",
    "cli",
]
FILES = {
    "checkpoints": "base dtypes pieces foreign shards weights local safetensors pytorch gguf held hub locate opening",
    "checkpoints/safetensors": "headers plain search metadata",
    "checkpoints/pytorch": "unpickler tensors pickled zip_directory state_dict archive pipeline dcp_metadata dcp",
    "checkpoints/hub": "retry parallel listing cache client source repository",
    "architectures": "base vocabulary families keys parts config evidence sides places stages order offsets sublayers "
    "stacks expected shortcut select",
    "gains": "memory device stack stored staging stream wide accept",
    "results": "base statistics run comparison documents tidy audit sweep schema files",
}
"""Files and folders of rooms in their order: each imports only those before it."""

DOORS = {
    "result.py": {"reports", "results"},
    "sweep/api.py": {"pages"},
    "gains/stack.py": {"reports"},
    "analysis/checkup.py": {"reports"},
    "analysis/lineage.py": {"reports"},
    "analysis/result.py": {"reports"},
}
"""Where a method that is there for the convenience of callers leads to a later stage: `Result.to_dict`, `Result.save`."""

CONFINED = {
    "click": {"cli"},
    "huggingface_hub": {"checkpoints/hub"},
    "transformers": {"verify", "integrations"},
    "numpy": {"analysis", "bench"},
    "safetensors": {"bench", "sweep", "verify", "reports/fingerprint.py"},
    "yaml": {"checkpoints/opening.py"},
    "rich": {"reports", "cli/progress.py", "cli/sweep_progress.py"},
    "torch": {
        "gains",
        "analysis",
        "trajectory",
        "results/run.py",
        "verify",
        "reports/analysis.py",
        "sweep",
        "bench/training_runs.py",
        "cli/run.py",
    },
    "pyarrow": {"reports/table_files.py"},
    "ray": {"sweep/on_ray.py"},
    "plotly": {"reports/figures", "result.py"},
    "pandas": {"result.py", "reports/views.py"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_stage_imports_only_the_stages_before_it(path):
    place = path.relative_to(PACKAGE)
    floor = place.parts[0].removesuffix(".py")
    for name in imports(path):
        top, _, inner = name.partition(".")
        room = inner.split(".")[0]
        if top == "gammatorch" and room and floor in FLOORS:
            is_door = room in DOORS.get(place.as_posix(), ())
            assert is_door or FLOORS.index(room) <= FLOORS.index(floor), f"{place} imports {name}"
        if top in CONFINED:
            rooms = {place.as_posix(), *(parent.as_posix() for parent in place.parents)}
            assert rooms & CONFINED[top], f"{place} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_takes_the_private_names_of_another(path):
    ours: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gammatorch"):
            names = [alias.name for alias in node.names]
            ours |= {alias.asname or alias.name for alias in node.names}
            assert not [name for name in names if is_private(name)], f"{path} imports {names}"
            assert not any(map(is_private, node.module.split("."))), f"{path} imports {node.module}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours:
            assert not is_private(node.attr), f"{path} uses {node.value.id}.{node.attr}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("folder", FILES)
def test_a_file_imports_only_the_files_before_it(folder):
    names = FILES[folder].split()
    held = {
        path.stem for path in (PACKAGE / folder).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert held - {"__init__"} == set(names)
    within = f"gammatorch.{folder.replace('/', '.')}."
    for number, name in enumerate(names):
        place = PACKAGE / folder / name
        for path in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
            rooms = {one.removeprefix(within).split(".")[0] for one in imports(path) if one.startswith(within)}
            later = rooms - set(names[: number + place.is_dir()])
            assert not later, f"{path.relative_to(PACKAGE)} imports {later}, which come after it"


def test_the_reference_shares_nothing_with_what_it_checks():
    assert not any(name.startswith("gammatorch") for name in imports(PACKAGE / "bench" / "reference.py"))


def test_the_public_names_are_there_and_documented():
    for name in gammatorch.__all__:
        assert getattr(gammatorch, name).__doc__, name
    assert set(gammatorch.__all__) <= set(dir(gammatorch))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gammatorch.nothing


def test_the_tree_of_errors_is_the_one_in_its_docstring():
    from gammatorch import errors

    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    parents: dict[int, str] = {}
    drawn = set()
    for line in errors.__doc__.splitlines():
        words = line.strip("│├└─ ").split()
        if words and words[0] in classes:
            depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
            parents[depth] = words[0]
            assert depth == 1 or classes[parents[depth - 1]] in classes[words[0]].__mro__
            drawn.add(words[0])
    assert drawn == set(classes)


def test_every_public_function_says_what_it_takes_and_returns():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and "cli" not in path.parts:
                text = ast.get_docstring(node) or ""
                arguments = [
                    arg.arg for arg in [*node.args.args, *node.args.kwonlyargs] if arg.arg not in ("self", "cls")
                ]
                overloaded = any(getattr(deco, "id", "") == "overload" for deco in node.decorator_list)
                if len(arguments) > 2 and not overloaded and "Args:" in text:
                    missing = [name for name in arguments if f"{name}:" not in text]
                    assert not missing, f"{path.name}: {node.name} does not tell of {missing}"
