# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: each command is one method of Lab."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import bmc, guest_image, holder, mounts, node_init
from lab.errors import LabError
from lab.guest_spec import MIB, DiskSpec, GuestSpec
from lab.lab import Lab, labs
from lab.state import Paths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Action = Callable[[Lab, argparse.Namespace], "int | None"]
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

INTERNAL = (holder.MARK, "lab-node", "lab-graft", bmc.MARK)


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    if argv and argv[0] in INTERNAL:
        return internal(argv)
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


def internal(argv: Sequence[str]) -> int:
    """The processes that the lab starts itself: its holder, the nodes' inits, a helper for mounts, and what their BMCs ask for."""
    if argv[0] == "lab-graft":
        mounts.graft(int(argv[1]), argv[2], int(argv[3]), argv[4])
        return 0
    paths = Paths(Path(argv[1]).name)
    if argv[0] == bmc.MARK:
        return bmc.control(Lab(paths.name), argv[2], argv[3:])
    if argv[0] == holder.MARK:
        holder.main(paths)
    node_init.main(paths, argv[2])


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add_lab_commands(commands)
    add_node_commands(commands)
    add_guest_commands(commands.add_parser("guest", help="guests on the nodes").add_subparsers(required=True, metavar="COMMAND"))
    return top


def add(commands: Commands, name: str, action: Action, help_: str, *positional: str) -> argparse.ArgumentParser:
    """One command."""
    command = commands.add_parser(name, help=help_, description=help_)
    command.add_argument("--name", default="lab", help="name of the lab (default: lab)")
    for argument in positional:
        command.add_argument(argument)
    command.set_defaults(action=action)
    return command


def add_lab_commands(commands: Commands) -> None:
    """Commands about a whole lab."""
    up = add(commands, "up", do_up, "bring a lab up and print the path of its inventory")
    up.add_argument("--nodes", type=int, default=3)
    up.add_argument("--link-rate", help="limit every node's link, like 1gbit")
    add(commands, "down", lambda lab, _: lab.down(), "take a lab down and remove everything of it")
    add(commands, "status", do_status, "show all labs, or one of them, as JSON").set_defaults(name=None)
    inventory = add(commands, "inventory", do_inventory, "write an inventory, with migration_address of a chosen kind")
    inventory.add_argument("--addresses", default="ipv4", choices=("name", "ipv4", "ipv6"))
    inventory.add_argument("--output", type=Path)
    add(commands, "clean-cache", lambda *_: guest_image.clean(), "remove the guests' kernel and image, which outlive labs")


def add_node_commands(commands: Commands) -> None:
    """Commands about one node."""
    add(commands, "kill", lambda lab, a: lab.kill(a.node), "power loss of a node", "node")
    start = add(commands, "start", lambda lab, a: lab.start(a.node, a.wait), "power a node on", "node")
    start.add_argument("--wait", default="ready", choices=("", "ssh", "ready"))
    add(commands, "cut", lambda lab, a: lab.cut(a.node), "cut a node off the network", "node")
    add(commands, "mend", lambda lab, a: lab.mend(a.node), "put a node back on the network", "node")
    command = add(commands, "bmc", lambda lab, a: lab.bmc(a.node, a.behaviour), "have a node's BMC obey, or do something else", "node")
    command.add_argument("behaviour", choices=bmc.BEHAVIOURS)
    add(commands, "shape", lambda lab, a: lab.shape(a.node, a.rate), "limit a node's link, like 100mbit", "node", "rate")
    add(commands, "unshape", lambda lab, a: lab.unshape(a.node), "lift the limit of a node's link", "node")
    limit = add(commands, "limit", lambda lab, a: print(lab.limit(a.node, a.size)), "put a node's instances path on a small file system", "node")
    limit.add_argument("size", type=size)
    add(commands, "unlimit", lambda lab, a: lab.unlimit(a.node), "undo limit", "node")
    fill = add(commands, "fill", lambda lab, a: print(lab.fill(a.node, a.bytes_left)), "fill a limited instances path until this much is free", "node")
    fill.add_argument("bytes_left", type=size)
    add(commands, "unfill", lambda lab, a: lab.unfill(a.node), "undo fill", "node")
    share = add(commands, "share", lambda lab, a: print(lab.share(a.store, a.nodes, a.path)), "make a directory visible on several nodes", "store")
    share.add_argument("nodes", nargs="+")
    share.add_argument("--path", help="where (default: /srv/STORE)")
    add(commands, "unshare", lambda lab, a: lab.unshare(a.store, a.nodes), "undo share", "store").add_argument("nodes", nargs="+")
    execute = add(commands, "exec", lambda lab, a: lab.exec_here(a.node, a.argv), "run a command inside a node, without ssh", "node")
    execute.add_argument("argv", nargs="+", metavar="-- CMD")
    ssh = add(commands, "ssh", lambda lab, a: subprocess.call([*lab.ssh_command(a.node), *a.argv]), "open a node over ssh, as Ansible does", "node")
    ssh.add_argument("argv", nargs="*", metavar="-- CMD")
    add(commands, "look", lambda lab, _: print(json.dumps(lab.look(), indent=2)), "what of servers is on each node, as JSON")
    add(commands, "console", lambda lab, a: print(lab.console(a.node, a.guest), end=""), "what a guest said on its console on a node", "node", "guest")


def add_guest_commands(commands: Commands) -> None:
    """Commands about one guest."""
    define = add(commands, "define", do_define, "make a guest's disks on a node and define it; prints its UUID", "node", "guest")
    define.add_argument("--size", type=size, default=64 * MIB, help="of its disk (default: 64M)")
    define.add_argument("--format", choices=("qcow2", "raw"), default="qcow2")
    define.add_argument("--content-mib", type=int, default=0, help="random data on the disk")
    define.add_argument("--swap", type=size, help="size of a swap disk")
    define.add_argument("--memory-mib", type=int, default=160)
    define.add_argument("--vcpus", type=int, default=1)
    define.add_argument("--autostart", action="store_true")
    define.add_argument("--agent", action="store_true", help="with the guest agent")
    define.add_argument("--shutdown", choices=("acpi", "ignore", "mute"), default="acpi", help="what it does on the power button")
    define.add_argument("--spec", type=json.loads, help="instead of all this: a GuestSpec as JSON, disks as a list (guest_spec.py)")
    add(commands, "start", lambda lab, a: lab.start_guest(a.node, a.guest), "start a guest and wait until it answers", "node", "guest")
    add(commands, "ready", lambda lab, a: lab.wait_ready(a.guest), "wait until a guest answers, wherever it is", "guest")
    add(commands, "stop", lambda lab, a: lab.shutdown_guest(a.node, a.guest), "press the power button and wait until the guest is off", "node", "guest")
    add(commands, "remove", lambda lab, a: lab.remove_guest(a.node, a.guest), "undo define", "node", "guest")
    add(commands, "where", do_where, "nodes where a guest runs and where it is defined, as JSON", "guest")
    ask = add(commands, "ask", lambda lab, a: print(lab.guest_command(a.guest, " ".join(a.line))), "have a guest do something (docs/lab.md)", "guest")
    ask.add_argument("line", nargs="+")
    read = add(commands, "read-disk", do_read_disk, "print a file out of the file system in a disk image", "node", "path", "file")
    read.add_argument("--format", choices=("qcow2", "raw"), default="qcow2")


def size(text: str) -> int:
    """Bytes, or a number with K, M or G."""
    units = {"K": 1024, "M": MIB, "G": 1024 * MIB}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def do_up(lab: Lab, _arguments: argparse.Namespace) -> None:
    """Bring up, say where the inventory is."""
    lab.up()
    print(lab.inventory_path)


def do_status(_lab: Lab, arguments: argparse.Namespace) -> None:
    """Print what is up."""
    found = [arguments.name] if arguments.name else labs()
    json.dump([status(name) for name in found], sys.stdout, indent=2)
    print()


def status(name: str) -> dict[str, Any]:
    """One lab's status; also of one that is only left-overs."""
    try:
        return Lab(name).status()
    except LabError as error:
        return {"name": name, "up": False, "error": str(error)}


def do_inventory(lab: Lab, arguments: argparse.Namespace) -> None:
    """Write an inventory, print its path."""
    print(lab.write_inventory(arguments.output, arguments.addresses))


def do_define(lab: Lab, arguments: argparse.Namespace) -> None:
    """Define a guest: of one disk, or two, or as --spec says."""
    if arguments.spec:
        fields = {**arguments.spec, "disks": [DiskSpec(**disk) for disk in arguments.spec.get("disks", [{}])]}
        print(lab.define_guest(arguments.node, GuestSpec(arguments.guest, **fields)).uuid)
        return
    disks = [DiskSpec(arguments.size, arguments.format, content_mib=arguments.content_mib)]
    if arguments.swap:
        disks.append(DiskSpec(arguments.swap, arguments.format, "swap"))
    keys = ("memory_mib", "vcpus", "autostart", "agent", "shutdown")
    spec = GuestSpec(arguments.guest, disks, **{key: getattr(arguments, key) for key in keys})
    print(lab.define_guest(arguments.node, spec).uuid)


def do_where(lab: Lab, arguments: argparse.Namespace) -> None:
    """Print where a guest is."""
    print(json.dumps({"running": lab.running_on(arguments.guest), "defined": lab.defined_on(arguments.guest)}))


def do_read_disk(lab: Lab, arguments: argparse.Namespace) -> None:
    """Print a file out of an image."""
    print(lab.read_disk(arguments.node, arguments.path, arguments.file, arguments.format), end="")
