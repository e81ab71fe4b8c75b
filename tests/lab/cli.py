"""The command line: each command is one method of Lab."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from lab import holder, node_init
from lab.errors import LabError
from lab.lab import Lab, labs
from lab.state import Paths

if TYPE_CHECKING:
    from collections.abc import Sequence

Action = Callable[[Lab, argparse.Namespace], "int | None"]


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    if argv and argv[0] in (holder.MARK, "lab-node"):
        internal(argv)
    arguments = parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        lab = Lab(arguments.name or "lab", getattr(arguments, "nodes", 3), getattr(arguments, "link_rate", None))
        action: Action = arguments.action
        return action(lab, arguments) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def internal(argv: Sequence[str]) -> None:
    """The processes that the lab starts itself: its holder and the nodes' inits."""
    paths = Paths(Path(argv[1]).name)
    if argv[0] == holder.MARK:
        holder.main(paths)
    node_init.main(paths, argv[2])


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: Action, help_: str, *positional: str) -> argparse.ArgumentParser:
        """One command."""
        command = commands.add_parser(name, help=help_)
        command.add_argument("--name", default="lab", help="name of the lab (default: lab)")
        for argument in positional:
            command.add_argument(argument)
        command.set_defaults(action=action)
        return command

    up = add("up", do_up, "bring a lab up and print the path of its inventory")
    up.add_argument("--nodes", type=int, default=3)
    up.add_argument("--link-rate", help="limit every node's link, like 1gbit")
    add("down", lambda lab, _: lab.down(), "take a lab down and remove everything of it")
    add("status", do_status, "show the labs, or one of them, as JSON").set_defaults(name=None)
    add("kill", lambda lab, a: lab.kill(a.node), "power loss of a node", "node")
    add("start", lambda lab, a: lab.start(a.node, a.wait), "power a node on", "node").add_argument("--wait", default="ready", choices=("", "ssh", "ready"))
    add("cut", lambda lab, a: lab.cut(a.node), "cut a node off the network", "node")
    add("mend", lambda lab, a: lab.mend(a.node), "put a node back on the network", "node")
    add("shape", lambda lab, a: lab.shape(a.node, a.rate), "limit a node's link", "node", "rate")
    add("unshape", lambda lab, a: lab.unshape(a.node), "lift the limit of a node's link", "node")
    inventory = add("inventory", do_inventory, "write an inventory, with migration_address of a chosen kind")
    inventory.add_argument("--addresses", default="ipv4", choices=("name", "ipv4", "ipv6"))
    inventory.add_argument("--output", type=Path)
    execute = add("exec", lambda lab, a: lab.exec_here(a.node, a.argv), "run a command inside a node, without ssh", "node")
    execute.add_argument("argv", nargs="+", metavar="-- CMD")
    secure = add("ssh", lambda lab, a: subprocess.call([*lab.ssh_command(a.node), *a.argv]), "open a node over ssh, as Ansible does", "node")
    secure.add_argument("argv", nargs="*", metavar="-- CMD")
    return top


def do_up(lab: Lab, _: argparse.Namespace) -> None:
    """Bring up, say where the inventory is."""
    lab.up()
    print(lab.inventory_path)


def do_status(_: Lab, arguments: argparse.Namespace) -> None:
    """Print what is up."""
    found = [arguments.name] if arguments.name else labs()
    json.dump([Lab(name).status() for name in found], sys.stdout, indent=2)
    print()


def do_inventory(lab: Lab, arguments: argparse.Namespace) -> None:
    """Write an inventory, print its path."""
    print(lab.write_inventory(arguments.output, arguments.addresses))


