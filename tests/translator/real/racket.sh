#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: racket
# seconds: 120
# where: uffd mprotect kmod
# Racket reads 20 MB of machine code from its boot files into executable memory.
# The libraries are what the distribution compiled, whatever their dates.
export PLT_COMPILED_FILE_CHECK=exists
exec racket -l racket/base -l racket/string -l racket/file -e "$(cat "$REAL/../data/work.rkt")"
