"""Source files of the product, with their modules, imports and calls, for the architecture tests."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("jobs", "myctobot", "shards", "workers")


@dataclass(frozen=True)
class Module:
    """One Python file.

    Attributes:
        name: dotted name, such as ``jobs.api.views``, or the name of the package for an ``__init__.py``.
    """

    path: Path
    name: str
    text: str
    tree: ast.Module

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))

    def imports(self) -> Iterator[str]:
        """Yield the dotted names of the modules that this one imports, at any place in the file."""
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
                source = ".".join(part for part in (base, node.module) if part)
                # ``from workers import mcp`` imports a module, ``from workers.executors.mcp import chosen`` a name.
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    yield inner if is_module(inner) else source

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Yield each call with its callee as written, such as ``httpx.Client``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or path.is_dir()


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Return every module in the folders, without migrations, because those are generated."""
    found = tuple(
        _read(path)
        for folder in folders or PRODUCT
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "migrations" not in path.parts
    )
    # The trees are millions of objects that stay until the end, so the garbage collector need not scan them.
    gc.freeze()
    return found


@cache
def _read(path: Path) -> Module:
    text = path.read_text()
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(path, name, text, ast.parse(text))


def module(name: str) -> Module:
    path = ROOT / name.replace(".", "/")
    return _read(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")
