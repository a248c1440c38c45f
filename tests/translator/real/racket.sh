#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: racket
# seconds: 120
# where: uffd mprotect kmod
# Racket reads 20 MB of machine code from its boot files into executable memory.
exec racket -l racket -e "$(cat "$REAL/../data/work.rkt")"
