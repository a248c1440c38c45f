#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: /usr/lib/jvm/java-17-openjdk-amd64/bin/java
# seconds: 120
# Single-file source launch (the compiler in memory); the interpreter alone, itself generated code.
export PATH=/usr/lib/jvm/java-17-openjdk-amd64/bin:$PATH
java -Xint "$REAL/../data/Hello.java" one 'two words'; echo $?
java -version 2>&1 | head -n 1
