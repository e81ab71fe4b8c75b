# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every gate of the project, cheapest first: ``python tests/gates.py [NAME ...]`` (all without names).

All run even if one fails. Each prints one line; the whole output of each is in .build/log/NAME.log, and the end of it is shown
for one that failed. Exit code 0 only if none failed. A gate that this machine cannot run says why and counts as skipped.
"""

from __future__ import annotations

import collections.abc as c
import concurrent.futures
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build"
LOGS = BUILD / "log"
VENV = BUILD / "venv"
NEWEST = BUILD / "venv-newest"
TREE = BUILD / "tree"
COLLECTION = Path("ansible_collections", "coldmove", "libvirt")
Environment = c.Mapping[str, "str | Path"]
NEWEST_LOCK = threading.Lock()
#: Whether what a change has no time for is tested as well.
NIGHT = os.environ.get("COLDMOVE_NIGHTLY", "")
#: No test on the lab is begun after so many minutes of a day's run. A slow machine comes to the end of all of them only at night.
DAY_MINUTES = 20
#: Scenarios whose verbs the tests on the lab show too.
NIGHTLY_SCENARIOS = ("evacuate", "many", "revert", "selection", "stopped", "unconfirmed")
#: Told to all commands, and by them to the labs that they bring up.
RUN = str(os.getpid())
NEWER_PYTHONS = ("3.14", "3.13", "3.12")

# ansible-test makes a virtual environment per test and fetches a pip installer for it from a host that closed networks do not
# reach. It looks into its cache first: this stand-in does the same with the pip that Python brings along.
GET_PIP = """\
import subprocess, sys
args = [a for a in sys.argv[1:] if a not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *args]))
"""


class Failed(Exception):
    """The gate found something."""


class Skipped(Exception):
    """This machine cannot run the gate; says why."""


class Run:
    """One run of one gate: its log, and the processes that it may leave behind."""

    alive: t.ClassVar[set[subprocess.Popen[str]]] = set()

    def __init__(self, name: str, minutes: float) -> None:
        self.log = LOGS / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("", encoding="utf-8")
        self.deadline = time.monotonic() + minutes * 60
        self.note = ""
        self.home = BUILD / "home" / name
        self.home.mkdir(parents=True, exist_ok=True)

    def __call__(self, *command: str | Path, cwd: Path = ROOT, venv: Path = VENV, env: Environment | None = None) -> None:
        """Run a command in a session of its own, into the log."""
        environment = {
            **os.environ,
            "PATH": f"{venv / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
            "COLDMOVE_RUN": RUN,
            **{key: str(value) for key, value in (env or {}).items()},
        }
        tool = venv / "bin" / str(command[0])
        argv = [str(tool if tool.exists() else command[0]), *map(str, command[1:])]
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(argv)}\n".replace(str(ROOT), "."))
            log.flush()
            process = subprocess.Popen(argv, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True, start_new_session=True)
            self.alive.add(process)
            try:
                code = process.wait(timeout=max(1, self.deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                end(process)
                raise Failed("took too long") from None
            finally:
                self.alive.discard(process)
        if code:
            raise Failed(f"exit code {code}")

    def last_line(self) -> str:
        """Return the last line of the log that says something, for the table."""
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" =\n") for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines()]
        said = [line for line in lines if line and not line.startswith("$ ")]
        return said[-1] if said else ""

    def tail(self, lines: int = 60) -> str:
        """Return what matters of the log: the findings if the tool marks them so, else the end."""
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        findings = [line for line in said if line.startswith(("ERROR:", "FATAL:"))]
        return "\n".join((findings or said)[-lines:])


def end(process: subprocess.Popen[str]) -> None:
    """End a command of ours and all of its processes: first so that it can clean up, then for good."""
    for number, seconds in ((signal.SIGTERM, 60), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=seconds)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def labs() -> set[str]:
    """Return the names of the labs that this run of the gates has brought up, and that are there."""
    done = subprocess.run([sys.executable, ROOT / "tests" / "lab", "status"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout) if done.returncode == 0 else []
    return {lab["name"] for lab in found if lab.get("run") == RUN}


def take_down(names: c.Iterable[str]) -> None:
    """Take labs down that a gate left behind."""
    for name in names:
        subprocess.run([sys.executable, ROOT / "tests" / "lab", "down", "--name", name], stdin=subprocess.DEVNULL, timeout=120, check=False)


def checkout_tree() -> Path:
    """Return the checkout by its collection path (the symlink of tests/conftest.py)."""
    link = TREE / COLLECTION
    if link.resolve() != ROOT:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(ROOT, link.parent), target_is_directory=True)
    return link


def find_python(version: str) -> Path | None:
    """Look for an interpreter on the PATH and where version managers keep theirs."""
    name = f"python{version}"
    if found := shutil.which(name, path="/usr/local/bin:/usr/bin:/bin"):
        return Path(found)
    homes = [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions", Path.home() / ".local/share/uv/python"]
    for home in homes:
        for candidate in sorted(home.glob(f"*{version}*/bin/{name}"), reverse=True):
            if subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0:
                return candidate
    return None


# --- the gates, cheapest first -------------------------------------------------------------------------------------------------


def ruff(run: Run) -> None:
    """Style and likely mistakes."""
    run("ruff", "check", ".")


def format_(run: Run) -> None:
    """Layout of Python files."""
    run("ruff", "format", "--check", ".")


def changelog(run: Run) -> None:
    """Changelog fragments."""
    run("antsibull-changelog", "lint", env={"HOME": run.home})


def yamllint(run: Run) -> None:
    """YAML files."""
    run("yamllint", "--strict", ".")


def mypy(run: Run) -> None:
    """Types, strict: the plugins by their real names, then the programs of the roles and what tests stand on."""
    tree = checkout_tree().parents[2]
    run("mypy", "--config-file", ROOT / "pyproject.toml", "-p", "ansible_collections.coldmove.libvirt.plugins", cwd=tree, env={"MYPYPATH": tree})
    others = ("roles", "tests/lab", "tests/demo", "tests/bench", "tests/setup", "tests/gates.py", "tests/package.py")
    run("mypy", *[path for path in others if any_python(ROOT / path)], env={"MYPYPATH": ROOT / "tests"})


def any_python(path: Path) -> bool:
    """Is there anything for a Python tool at this path?"""
    return path.is_file() or any(path.rglob("*.py"))


def unit(run: Run) -> None:
    """Unit tests."""
    run("pytest", "-q", "-n", "2", "tests/unit")


def docs(run: Run) -> None:
    """Documentation of every plugin and role, and the references in it."""
    run("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs=all", ".", env={"HOME": run.home})


def build(run: Run) -> None:
    """The tarball: what is in it, and everything in it by its fully qualified name."""
    run("python", "tests/package.py", "--check")
    by_name(run, VENV)
    run.note = f"{next((BUILD / 'dist').glob('*.tar.gz')).name} holds what it should, and all of it answers by name"


def by_name(run: Run, venv: Path) -> None:
    """Ask for the documentation of everything, check the syntax of every playbook, and run one module, all from the installed tarball."""
    installed = BUILD / "installed"
    environment: Environment = {"HOME": run.home, "ANSIBLE_COLLECTIONS_PATH": f"{installed}:{BUILD / 'collections'}"}
    content = installed / COLLECTION
    kinds = {
        "module": sorted(path.stem for path in (content / "plugins/modules").glob("*.py")),
        "filter": sorted(path.stem for path in (content / "plugins/filter").glob("*.yml")),
        "role": sorted(path.name for path in (content / "roles").glob("*")),
    }
    for kind, names in kinds.items():
        if names:
            run("ansible-doc", "--type", kind, *[f"coldmove.libvirt.{name}" for name in names], venv=venv, env=environment)
    for playbook in sorted((content / "playbooks").glob("*.yml")):
        name = f"coldmove.libvirt.{playbook.stem}"
        run("ansible-playbook", "--syntax-check", "-i", "localhost,", "-e", "server=x flavor=x failed_host=x source_host=x", name, venv=venv, env=environment)
    store = run.home / "records.sqlite"
    run("ansible", "localhost", "-m", "coldmove.libvirt.migration_record_info", "-a", f"path={store}", venv=venv, env=environment)


def ansible_lint(run: Run) -> None:
    """ansible-lint's production profile, offline."""
    tree = checkout_tree()
    run("ansible-lint", "--offline", "--profile", "production", cwd=tree, env={"HOME": run.home, "ANSIBLE_COLLECTIONS_PATH": f"{TREE}:{BUILD / 'collections'}"})


def galaxy_importer(run: Run) -> None:
    """Import the tarball as Galaxy would."""
    (tarball,) = (BUILD / "dist").glob("*.tar.gz")
    run("python", "-m", "galaxy_importer.main", tarball, cwd=run.home, env={"HOME": run.home})
    importer = run.log.read_text(encoding="utf-8")
    if re.search(r"^(ERROR|CRITICAL)", importer, re.MULTILINE):
        raise Failed("the importer reports errors")


def ansible_test(run: Run, venv: Path, *arguments: str, pythons: c.Iterable[str] = ()) -> None:
    """Run ansible-test in a scratch copy of what git tracks (and of what is new and not ignored), without touching the machine's home."""
    scratch = BUILD / "scratch" / run.log.stem / COLLECTION
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists() or (ROOT / name).is_symlink():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, scratch / name, follow_symlinks=False)
    cache = run.home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in ("get_pip_24_2.py", "get_pip_25_2.py"):
        (cache / name).write_text(GET_PIP, encoding="utf-8")
    bin_folder = run.home / "bin"
    bin_folder.mkdir(exist_ok=True)
    for version in pythons:
        link = bin_folder / f"python{version}"
        link.unlink(missing_ok=True)
        if found := find_python(version):
            link.symlink_to(found)
    path = f"{venv / 'bin'}:{bin_folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run("git", "init", "-q", cwd=scratch, env={"HOME": run.home})
    run("git", "add", "--all", cwd=scratch, env={"HOME": run.home})
    run("ansible-test", *arguments, "--color", "no", cwd=scratch, venv=venv, env={"HOME": run.home, "PATH": path})
    tests = re.findall(r'^Running sanity test "([a-z-]+)"', run.log.read_text(encoding="utf-8"), re.MULTILINE)
    run.note = f"{len(tests)} tests of ansible-test sanity passed"


def python_of(venv: Path) -> str:
    """Return the version of a virtual environment's Python."""
    return subprocess.run(
        [venv / "bin" / "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def sanity(run: Run) -> None:
    """Every test of ansible-test sanity, on the oldest ansible-core that is supported."""
    ansible_test(run, VENV, "sanity", "--local", "--python", python_of(VENV))


def sanity_py39(run: Run) -> None:
    """What runs on nodes compiles and imports on the platform Python of Enterprise Linux 9."""
    if not find_python("3.9"):
        raise Skipped("there is no python3.9 on this machine (looked on the PATH, and for pyenv's and uv's)")
    controller = f"origin:python={python_of(VENV)}"
    ansible_test(run, VENV, "sanity", "--test", "compile", "--test", "import", "--controller", controller, "--target-python", "3.9", pythons=["3.9"])


def newest_environment(run: Run) -> None:
    """Make the virtual environment of the newest ansible-core, if there is a Python for it."""
    version = next((version for version in NEWER_PYTHONS if find_python(version)), None)
    if not version:
        raise Skipped(f"the newest ansible-core needs one of Python {', '.join(NEWER_PYTHONS)}, and none is on this machine")
    pins = ROOT / "tests" / "requirements-newest.txt"
    stamp = NEWEST / ".requirements.txt"
    with NEWEST_LOCK:
        if stamp.is_file() and stamp.read_bytes() == pins.read_bytes() and (NEWEST / "bin" / "ansible-test").exists():
            return
        shutil.rmtree(NEWEST, ignore_errors=True)
        run(find_python(version) or version, "-m", "venv", NEWEST)
        run(NEWEST / "bin" / "python", "-m", "pip", "install", "-q", "-q", "--disable-pip-version-check", "-r", pins)
        shutil.copy(pins, stamp)


def newest(run: Run) -> None:
    """The newest ansible-core on a newer Python: everything by name, unit tests."""
    newest_environment(run)
    by_name(run, NEWEST)
    run("pytest", "-q", "-n", "2", "-o", f"cache_dir={BUILD / 'pytest_cache_newest'}", "tests/unit", venv=NEWEST)


def newest_sanity(run: Run) -> None:
    """Every test of ansible-test sanity, on the newest ansible-core."""
    newest_environment(run)
    ansible_test(run, NEWEST, "sanity", "--local", "--python", python_of(NEWEST))


def integration(run: Run) -> None:
    """Pytest on the lab: real libvirt, ssh and qemu on several nodes."""
    if not any_python(ROOT / "tests" / "integration"):
        raise Failed("tests/integration holds no test")
    # Labs side by side: much of the time is spent waiting. In the order of their names the files of kill tests are not begun together.
    night = {"COLDMOVE_NIGHTLY": NIGHT, "COLDMOVE_TEST_MINUTES": "" if NIGHT else str(DAY_MINUTES)}
    run("pytest", "-v", "--durations=20", "-n", "3" if NIGHT else "2", "--dist", "loadfile", "--no-loadscope-reorder", "tests/integration", env=night)


def molecule(run: Run) -> None:
    """The molecule scenarios: the playbooks by name, on the lab."""
    # What molecule remembers of an interrupted run would make it skip bringing the lab up.
    shutil.rmtree(BUILD / "molecule", ignore_errors=True)
    left = [] if NIGHT else [word for name in NIGHTLY_SCENARIOS for word in ("--exclude", name)]
    run("molecule", "test", "--all", *left, env={"HOME": run.home, **molecule_environment()})


def molecule_environment() -> Environment:
    """Return what molecule needs to know: the installed collection, and a folder of its own."""
    return {"ANSIBLE_COLLECTIONS_PATH": f"{BUILD / 'installed'}:{BUILD / 'collections'}", "MOLECULE_EPHEMERAL_DIRECTORY": BUILD / "molecule"}


@dataclasses.dataclass(frozen=True)
class Gate:
    """One gate.

    ``lab``: it brings labs up, which fill the machine: such gates run beside each other, once all others are done. ``package``: it wants
    the collection built and installed from the tarball, which is done once before all gates.
    """

    name: str
    check: c.Callable[[Run], None]
    minutes: float = 20
    lab: bool = False
    package: bool = False


GATES = (
    Gate("ruff", ruff),
    Gate("format", format_),
    Gate("changelog", changelog),
    Gate("yamllint", yamllint),
    Gate("mypy", mypy),
    Gate("unit", unit),
    Gate("build", build, package=True),
    Gate("docs", docs),
    Gate("ansible-lint", ansible_lint),
    Gate("galaxy-importer", galaxy_importer, package=True),
    Gate("sanity-py39", sanity_py39),
    Gate("sanity", sanity, minutes=20),
    Gate("newest", newest, minutes=20, package=True),
    Gate("newest-sanity", newest_sanity, minutes=20),
    Gate("integration", integration, minutes=180 if NIGHT else 45, lab=True, package=True),
    Gate("molecule", molecule, minutes=180 if NIGHT else 50, lab=True, package=True),
)


@dataclasses.dataclass
class Outcome:
    """How a gate ended."""

    gate: Gate
    verdict: str
    seconds: float
    note: str


def attempt(gate: Gate, lock: threading.Lock) -> Outcome:
    """Run one gate and print its line."""
    run = Run(gate.name, gate.minutes)
    begin = time.monotonic()
    verdict, note = "passed", ""
    try:
        gate.check(run)
        note = run.note or run.last_line()
    except Skipped as reason:
        verdict, note = "skipped", str(reason)
    except Failed as reason:
        verdict, note = "FAILED", str(reason)
    except (OSError, subprocess.SubprocessError, ValueError) as broken:
        verdict, note = "FAILED", f"{type(broken).__name__}: {broken}"
    outcome = Outcome(gate, verdict, time.monotonic() - begin, note.replace(str(ROOT), "."))
    with lock:
        print(line(outcome), flush=True)
        if verdict == "FAILED":
            print(f"--- the end of {run.log.relative_to(ROOT)}\n{run.tail().replace(str(ROOT), '.')}\n---", flush=True)
    return outcome


def line(outcome: Outcome) -> str:
    """Return a gate's line."""
    return f"{outcome.verdict:8} {outcome.gate.name:16} {outcome.seconds:7.1f} s  {outcome.note[:110]}"


def choose(names: list[str]) -> list[Gate]:
    """Return the gates named, or all."""
    known = {gate.name: gate for gate in GATES}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no such gate: {', '.join(unknown)}. There are: {', '.join(known)}")
    return [gate for gate in GATES if not names or gate.name in names]


def stop(number: int, _frame: object) -> None:
    """Take along everything that runs when this is interrupted."""
    print("\ninterrupted: cleaning up", flush=True)
    for process in list(Run.alive):
        end(process)
    take_down(labs())
    os._exit(128 + number)


def main() -> None:
    """Run the gates, two at a time: the small ones, then those that bring labs up."""
    gates = choose(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    checkout_tree()
    lock = threading.Lock()
    begin = time.monotonic()
    if any(gate.package for gate in gates):
        built = attempt(Gate("package", lambda run: run("python", "tests/package.py")), lock)
        if built.verdict == "FAILED":
            sys.exit("the collection could not be built")
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = list(pool.map(lambda gate: attempt(gate, lock), [gate for gate in gates if not gate.lab]))
        outcomes += pool.map(lambda gate: attempt(gate, lock), [gate for gate in gates if gate.lab])
    if left := labs():
        take_down(left)
        outcomes.append(Outcome(Gate("cleaning", lambda run: None), "FAILED", 0, f"a lab was left behind: {', '.join(sorted(left))}"))
        print(line(outcomes[-1]), flush=True)
    count = {verdict: sum(outcome.verdict == verdict for outcome in outcomes) for verdict in ("passed", "FAILED", "skipped")}
    if len(gates) > 1:
        print(f"\n{'gate':25} time (all: {(time.monotonic() - begin) / 60:.1f} minutes; logs in .build/log)")
        order = [gate.name for gate in gates]
        for outcome in sorted(outcomes, key=lambda outcome: order.index(outcome.gate.name) if outcome.gate.name in order else len(order)):
            print(line(outcome))
    print(f"{count['passed']} passed, {count['FAILED']} failed, {count['skipped']} skipped", flush=True)
    sys.exit(count["FAILED"] > 0)


if __name__ == "__main__":
    main()
