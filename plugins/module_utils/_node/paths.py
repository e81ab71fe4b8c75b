# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Where a compute node keeps what belongs to moves. The roles compute_node and ssh_trust create what is in ``/etc``."""

from __future__ import annotations

from pathlib import Path

#: Journals and job states: must survive a power loss.
STATE_DIR = Path("/var/lib/coldmove")
#: Sockets and pid files: gone after a reboot, like the processes they belong to.
RUN_DIR = Path("/run/coldmove")
#: Says by its content which start of this node this is.
BOOT_MARK = RUN_DIR / "boot"
#: One empty file for each server that a migration is starting here just now: the guard lets it.
STARTS_DIR = RUN_DIR / "starts"
#: What keeps servers from starting that moved away: asked by libvirt's hook, and by the boot.
GUARD = Path("/usr/local/sbin/coldmove-guard")
GUARD_HOOK = Path("/etc/libvirt/hooks/qemu.d/coldmove")
#: The root directory that sshd confines the channel's account to (``ChrootDirectory``): it must be there after a reboot too.
CHANNEL_DIR = STATE_DIR / "channel"
#: The one folder in it that the account may write to: sshd puts the sockets there that peers offer. Root alone uses them.
OFFERS_DIR = CHANNEL_DIR / "offers"
#: Sockets of this node's own exports: root's and the channel's, which is root's too.
EXPORTS_DIR = RUN_DIR / "exports"
#: Sockets through which QEMU mirrors disks into the channel, each of QEMU's account alone: so no folder of root's may be above.
MIRRORS_DIR = Path("/run/coldmove-mirrors")
#: Locks of those that send, and of those that wait to: see slots.py.
SLOTS_DIR = RUN_DIR / "slots"
#: The channel's key, the peers' pinned host keys, and the keys that may open the channel of this node.
TRUST_DIR = Path("/etc/coldmove")
IDENTITY = TRUST_DIR / "id_ed25519"
KNOWN_HOSTS = TRUST_DIR / "known_hosts"
AUTHORIZED_KEYS = TRUST_DIR / "authorized_keys"
SSHD_DROP_IN = Path("/etc/ssh/sshd_config.d/10-coldmove.conf")
#: The account that sshd lets in for the channel.
ACCOUNT = "coldmove"
