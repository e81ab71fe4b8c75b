#!/bin/sh
# libvirt's hook of coldmove.libvirt, beside any other: arguments are the domain, the operation and the step; its definition is on stdin.
case "$2/$3" in
    prepare/begin) exec /usr/local/sbin/coldmove-guard --may-start ;;
    migrate/begin) exec /usr/local/sbin/coldmove-guard --comes ;;
esac
exit 0
