"""Real programs that agents use, in the real sandbox with its filter and its network; none needs the Internet."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from myctobot.stack.postgres import wheel_folder
from tests.fixtures.chromium import find_chromium
from tests.fixtures.messages_api import text, tool
from tests.integration.workers.executors.test_claude_code import Scene
from workers.executors.mcp import paths_needed
from workers.sandbox.sandbox import Completed, ResourceLimits, Sandbox, SandboxConfig

UID = 64605
POSTGRES = wheel_folder() / "pginstall"
# Debian's command is a script that reads files of /etc, which agents do not see.
CHROMIUM = Path("/usr/lib/chromium/chromium")
# The agent's processes map far more memory than they use.
LIMITS = ResourceLimits(memory_mb=1024, processes=512)
# Fails where a process has no filter of system calls, or a network interface besides its own loopback.
INTERFACES = "$(sed -n '3,$s/:.*//p' /proc/net/dev | tr -d ' ')"
HARDENED = f"""(grep -qx 'Seccomp:.2' /proc/self/status && test "{INTERFACES}" = lo) || exit 9"""


def run(tmp_path: Path, script: str, *programs: str, stdin: str = "") -> Completed:
    """Run a script in a sandbox that shows these programs, and check that it succeeds."""
    read_only = tuple(sorted({path for program in programs for path in paths_needed(program)}))

    async def whole() -> Completed:
        sandbox = Sandbox(SandboxConfig(LIMITS, UID, read_only=read_only), tmp_path)
        try:
            await sandbox.run(["chown", "-R", "agent", "."])
            hardened = f"{HARDENED}\n{script}"
            return await sandbox.run(["sh", "-ec", hardened], stdin=stdin.encode(), timeout_s=120)
        finally:
            await sandbox.close()

    done = asyncio.run(whole())
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done


def write(tmp_path: Path, name: str, content: str) -> Path:
    """Write a file of the agent's repository."""
    path = tmp_path / "agent/repo" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    if os.geteuid() == 0:
        shutil.chown(path, UID, UID)
    return path


def test_claude_code(tmp_path: Path) -> None:
    scene = Scene(tmp_path, [tool("Bash", command=f"{HARDENED}; echo from-the-agent | tee made"), text("Done.")])
    assert scene.run_agent().failure is None
    assert (scene.repo / "made").read_text() == "from-the-agent\n"


def test_git(tmp_path: Path) -> None:
    who = "-c user.name=A -c user.email=a@b.invalid"
    script = f"git init -q a && cd a && echo x > f && git add f && git {who} commit -qm first && git gc -q && cd .."
    done = run(tmp_path, f"{script} && git clone -q a b && git -C b log --format=%s")
    assert done.stdout == b"first\n"


def test_pip(tmp_path: Path) -> None:
    (tmp_path / "agent/repo").mkdir(parents=True)
    wheel = tmp_path / "agent/repo/demo_package-1.0-py3-none-any.whl"
    information = "demo_package-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo_package.py", "VALUE = 'installed'\n")
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: demo-package\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    install = f"{sys.executable} -m pip install -q --no-index --find-links . --target site demo-package"
    use = f"PYTHONPATH=site {sys.executable} -c 'import demo_package; print(demo_package.VALUE)'"
    assert run(tmp_path, f"{install}\n{use}", sys.executable).stdout == b"installed\n"


def test_pytest(tmp_path: Path) -> None:
    write(tmp_path, "test_one.py", "def test_one(tmp_path):\n    assert tmp_path.is_dir()\n")
    done = run(tmp_path, f"{sys.executable} -m pytest -q -p no:cacheprovider test_one.py", sys.executable)
    assert b"1 passed" in done.stdout


@pytest.mark.needs("npm")
def test_npm(tmp_path: Path) -> None:
    write(tmp_path, "dep/package.json", json.dumps({"name": "dep", "version": "1.0.0"}))
    write(tmp_path, "dep/index.js", "module.exports = 'installed'\n")
    scripts = {"test": "node -e 'console.log(require(\"dep\"))'"}
    write(tmp_path, "package.json", json.dumps({"name": "a", "dependencies": {"dep": "file:dep"}, "scripts": scripts}))
    npm = str(shutil.which("npm"))
    done = run(tmp_path, "npm install --offline --no-audit --no-fund --loglevel=error && npm test --silent", npm)
    assert done.stdout.endswith(b"installed\n")


@pytest.mark.needs("chromium")
def test_playwright_with_chromium(tmp_path: Path) -> None:
    chromium = str(CHROMIUM if CHROMIUM.exists() else find_chromium())
    write(tmp_path, "index.html", "<title>x</title><script>document.title = 'a page of ' + location.hostname</script>")
    write(
        tmp_path,
        "look.py",
        f"""
import functools, http.server, threading
from playwright.sync_api import sync_playwright

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/workspace")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path={chromium!r}, args=["--no-sandbox"])
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{{server.server_port}}/index.html")
    print(page.title(), len(page.screenshot()) > 1000)
    browser.close()
""",
    )
    done = run(tmp_path, f"{sys.executable} look.py", sys.executable, chromium)
    assert done.stdout == b"a page of 127.0.0.1 True\n"


def test_a_postgresql_client_and_its_server(tmp_path: Path) -> None:
    script = f"""
export PATH={POSTGRES}/bin:$PATH
initdb -D /tmp/data --auth=trust --no-sync -U agent >/dev/null
pg_ctl -D /tmp/data -w -o "-h 127.0.0.1 -k /tmp -F" -l /tmp/log start >/dev/null
for host in 127.0.0.1 /tmp; do psql -h $host -U agent -d postgres -Atc "select 'from $host'"; done
pg_ctl -D /tmp/data -m immediate stop >/dev/null
"""
    done = run(tmp_path, script, str(POSTGRES / "bin/psql"))
    assert done.stdout == b"from 127.0.0.1\nfrom /tmp\n"


def test_mcp_server_git(tmp_path: Path) -> None:
    server = str(Path(sys.prefix, "bin", "mcp-server-git"))
    write(
        tmp_path,
        "client.py",
        f"""
import asyncio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    async with stdio_client(StdioServerParameters(command={server!r})) as pipes, ClientSession(*pipes) as session:
        await session.initialize()
        answer = await session.call_tool("git_status", {{"repo_path": "/workspace/r"}})
        print(answer.content[0].text)

asyncio.run(main())
""",
    )
    done = run(tmp_path, f"git init -q r && touch r/untracked-file && {sys.executable} client.py", server)
    assert b"untracked-file" in done.stdout
