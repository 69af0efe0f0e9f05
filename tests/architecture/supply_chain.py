"""Rules about packages: each is pinned, each file has a hash, and no installation does without them.

Each rule takes the text of a file and returns its violations, so that tests can give it bad input.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from scripts.audit.locks import has_integrity, normalized, npm_entries, pins, requirements

_EXACT = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
_INSTALL = re.compile(r"\b(?:pip[\d.]*|uv) +(?:pip +)?(?:install|download|wheel|add|sync)\b")
_NPM = re.compile(r"(?<![\w./-])(?:npm|pnpm|yarn|bun) +(?:install|i|add|ci|exec)\b|(?<![\w./-])(?:npx|uvx|pipx)\b +\S")
# The project's own folder has no hash, because the reader has its source already.
_OWN_FOLDER = re.compile(r"\binstall (?:\.|/path/to/this/repository)\s*(?:$|[\"'`&|;])")


def unlocked(text: str) -> list[str]:
    """Return the entries of a lock that are not pinned or have no hash, and lines that contain a URL."""
    wrong = [
        f"{one.text}: not pinned with == and a sha256 hash"
        for one in requirements(text)
        if not one.pin() or not one.is_hashed()
    ]
    return wrong + [
        f"{line.strip()}: contains a URL; the lock must not choose the package index"
        for line in text.splitlines()
        if "://" in line
    ]


def unfit(short: str, lock: str) -> list[str]:
    """Return the entries of a short file that pin no version, or another version than the lock."""
    locked = pins(lock)
    wrong = []
    for one in requirements(re.sub(r"^-[rc] .*$", "", short, flags=re.MULTILINE)):
        pin = one.pin()
        if pin is None:
            wrong.append(f"{one.text}: the short file must pin it with ==")
        elif {version for name, version in locked if name == pin[0]} != {pin[1]}:
            wrong.append(f"{one.text}: the lock has another version; run 'make lock'")
    return wrong


def included(short: str) -> list[str]:
    """Return the short files that a short file includes."""
    return re.findall(r"^-r (\S+)$", short, re.MULTILINE)


def unlocked_npm(package: str, lock: str) -> list[str]:
    """Return the violations of a package.json and its package-lock.json."""
    entries = npm_entries(lock)
    wrong = [f"{path}: no sha512 integrity" for path, entry in entries.items() if not has_integrity(entry)]
    wrong += [
        f"{path}: contains a URL; the lock must not choose the registry"
        for path, entry in entries.items()
        if "resolved" in entry or "://" in str(entry)
    ]
    for name, version in json.loads(package).get("dependencies", {}).items():
        if not _EXACT.fullmatch(version):
            wrong.append(f"{name}: package.json must name one version, not {version}")
        elif entries.get(f"node_modules/{name}", {}).get("version") != version:
            wrong.append(f"{name}: the lock has another version; run 'make lock'")
    return wrong


def unsafe_words(words: list[str]) -> str | None:
    """Return why a command, as a list of words, installs unchecked packages, or None."""
    programs = [word.rpartition("/")[2] for word in words]
    if "install" in words and ("pip" in programs or "pip3" in programs):
        return None if "--require-hashes" in words else "pip needs --require-hashes"
    if {"npm", "npm-cli.js", "npx"}.intersection(programs):
        safe = ("ci" in words and "--ignore-scripts" in words) or "--package-lock-only" in words
        return None if safe else "npm needs ci and --ignore-scripts"
    return None


def unsafe_lines(text: str) -> list[str]:
    """Return the commands of a shell script, a Makefile or a page that install unchecked packages."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    commands = [line.strip() for line in lines if not line.lstrip().startswith("#")]
    return [line for line in commands if _is_unsafe(line)]


def _is_unsafe(line: str) -> bool:
    if _INSTALL.search(line) and "--require-hashes" not in line and not _OWN_FOLDER.search(line):
        return True
    from_lock = "npm ci" in line and "--ignore-scripts" in line
    return bool(_NPM.search(line)) and "--package-lock-only" not in line and not from_lock


def unsafe_page(text: str) -> list[str]:
    """Return the commands of a documentation page that install unchecked packages; its prose may speak of them."""
    return unsafe_lines("\n".join(line for line in text.splitlines() if line.startswith("    ")))


def unsafe_python(text: str) -> list[str]:
    """Return the lists of words and the texts in Python code that install unchecked packages."""
    tree = ast.parse(text)
    documented = {id(found) for node in ast.walk(tree) if (found := _docstring(node))}
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple):
            words = [str(one.value) for one in node.elts if isinstance(one, ast.Constant)]
            if why := unsafe_words(words):
                wrong.append(f"line {node.lineno}: {why}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            wrong += [f"line {node.lineno}: {line}" for line in unsafe_lines(node.value)]
    return wrong


def _docstring(node: ast.AST) -> ast.expr | None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not node.body:
        return None
    first = node.body[0]
    return first.value if isinstance(first, ast.Expr) else None


def unsafe_tasks(text: str) -> list[str]:
    """Return the tasks of a YAML file of Ansible that install unchecked packages."""
    return [f"{task.get('name')}: {why}" for task in _tasks(yaml.safe_load(text)) if (why := _unsafe_task(task))]


def _tasks(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        yield found
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _tasks(inner)


def _unsafe_task(task: dict[str, Any]) -> str | None:
    for module, options in task.items():
        kind = str(module).rpartition(".")[2]
        if kind in ("pip", "npm", "gem", "easy_install"):
            return f"the module {kind} cannot ask for hashes; run the command"
        if kind not in ("command", "shell", "raw", "script"):
            continue
        said = options.get("argv") or options.get("cmd") if isinstance(options, dict) else options
        if isinstance(said, list):
            if why := unsafe_words([str(word) for word in said]):
                return why
        elif wrong := unsafe_lines(str(said)):
            return wrong[0]
    return None


def unlocked_servers(variables: dict[str, Any], python: dict[str, str], npm: dict[str, str]) -> list[str]:
    """Return the servers of a shard's variables that have no lock, or another version than their lock.

    Args:
        python, npm: versions of the servers that have locks, by name.
    """
    node = [variables["shard_node"]] if "shard_node" in variables else []
    wrong = []
    for pin in [*variables.get("shard_mcp_servers", []), *node]:
        name, _, version = pin.partition("==")
        if not version or python.get(normalized(name)) != version:
            wrong.append(f"{pin}: ansible/locks/python has no lock of it")
    for pin in variables.get("shard_npm_servers", []):
        name, _, version = pin.rpartition("@")
        if npm.get(name) != version:
            wrong.append(f"{pin}: ansible/locks/npm has no lock of it")
    return wrong
