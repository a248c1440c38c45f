#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: gcc dash
# seconds: 150
# What a configure script does all day: many small programs, most of them compilers.
cp "$REAL/../data/configure" . && dash ./configure --prefix=/opt/x --enable-feature
echo "status $?"; sort config.h; grep -c . config.log >/dev/null && echo logged; cat Makefile
