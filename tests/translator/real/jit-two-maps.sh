#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# where: uffd mprotect kmod
# seconds: 60
# One memory, mapped writable here and executable there.
"$GUESTS/app_two_maps" memfd; "$GUESTS/app_two_maps" shm; "$GUESTS/app_two_maps" anon
"$GUESTS/app_two_maps" threads; "$GUESTS/app_two_maps" fork; "$GUESTS/app_two_maps" processes
"$GUESTS/app_two_maps" vfork; "$GUESTS/app_two_maps" lent; "$GUESTS/app_two_maps" reopened
